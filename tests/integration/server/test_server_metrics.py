"""A real server is scraped over HTTP, and what it says of real events is read by the parsers of Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from grpclib.client import UnaryUnaryMethod
from grpclib.exceptions import GRPCError
from sqlalchemy import URL

from meshtls.address import Address
from meshtls.admin.keys import AdminKeys
from meshtls.errors import AccessError, NotFoundError, RequestError
from meshtls.proto import server_pb as pb
from meshtls.server.metrics.families import FAMILIES
from meshtls.server.store.address import postgres_url
from meshtls.serverapi.admin import AdminClient
from meshtls.serverapi.channels import local_channel
from meshtls.serverapi.values import Subject, SubjectKind
from meshtls.spiffeid import SpiffeId, TrustDomain
from tests.support.admin import ask
from tests.support.bundle_partner import answer, partner
from tests.support.postgres import Postgres
from tests.support.scraping import OPENMETRICS, Found, get, names_in, samples, scraped, scraped_until, value
from tests.support.server import TD, ServerUnderTest, config_for, entry, new_csr, started

ANYWHERE = Address("127.0.0.1", 0)
API = "/meshtls.server.v1."
#: What a server without agents, other trust domains, refusals and failures has no sample of.
_OF_EVENTS = {
    "meshtls_server_connections_refused_total",
    "meshtls_server_federation_last_success_timestamp_seconds",
    "meshtls_server_federation_bundle_sequence",
    "meshtls_server_federation_fetches_total",
    "meshtls_server_federation_stale",
    "meshtls_metrics_other_total",
}


@pytest.fixture
async def server(tmp_path: Path, store_url: URL) -> AsyncIterator[ServerUnderTest]:
    async with started(config_for(tmp_path, store_url, metrics=ANYWHERE)) as running:
        yield running


async def fresh(server: ServerUnderTest) -> Found:
    """A scrape of what is so now: the store's part of it may be two seconds old."""
    await server.admin.create_join_token()  # an act that the audit trail numbers
    number = (await server.admin.audit_head()).number
    return await scraped_until(
        server.running.metrics, lambda found: (value(found, "meshtls_server_audit_records") or 0) >= number
    )


def calls(found: Found, method: str, code: str = "OK") -> float | None:
    return value(found, "meshtls_server_rpcs_total", method=f"{API}{method}", code=code)


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_a_scrape_has_every_declared_family_and_no_other(server: ServerUnderTest, accept: str) -> None:
    await server.admin.bundle()
    assert server.running.metrics is not None
    _, content = await get(server.running.metrics, accept=accept)
    assert samples(content)
    declared = {family.base if accept else family.name for family in FAMILIES}
    of_events = _OF_EVENTS | {name.removesuffix("_total") for name in _OF_EVENTS}
    assert names_in(content) - of_events == declared - of_events


async def test_calls_are_counted_by_method_and_status(server: ServerUnderTest) -> None:
    before = await scraped(server.running.metrics)
    await server.admin.bundle()
    with pytest.raises(NotFoundError):
        await server.admin.entry("none")
    agent = await server.new_agent()
    refused = AdminClient(server.mutual(agent.svid, agent.bundle))
    with pytest.raises(AccessError):
        await refused.bundle()
    found = await scraped_until(
        server.running.metrics, lambda found: calls(found, "Bundles/GetBundle", "PERMISSION_DENIED") == 1
    )
    assert calls(before, "Bundles/GetBundle") is None
    assert calls(found, "Bundles/GetBundle") == 2  # new_agent asks, too
    assert calls(found, "Entries/GetEntry", "NOT_FOUND") == 1
    assert calls(found, "Entries/GetEntry") is None
    assert calls(found, "Bundles/GetBundle", "PERMISSION_DENIED") == 1
    assert calls(found, "Attestation/AttestAgent") == 1
    duration = "meshtls_server_rpc_duration_seconds"
    assert value(found, f"{duration}_count", method=f"{API}Bundles/GetBundle") == 2
    assert (value(found, f"{duration}_sum", method=f"{API}Bundles/GetBundle") or 0) > 0
    assert value(found, f"{duration}_count", method=f"{API}Attestation/AttestAgent") is None


async def test_a_method_that_does_not_exist_is_in_no_label(server: ServerUnderTest) -> None:
    channel = server.keep(local_channel(server.running.socket_path))
    hostile = UnaryUnaryMethod(channel, '/meshtls."}\\evil/Nothing', pb.GetBundleRequest, pb.Bundle)
    with pytest.raises(GRPCError):
        await hostile(pb.GetBundleRequest())
    await server.admin.bundle()
    assert server.running.metrics is not None
    _, content = await get(server.running.metrics)
    assert "evil" not in content
    assert calls(samples(content), "Bundles/GetBundle") == 1


async def test_agents_entries_and_what_is_issued_to_them_are_counted(server: ServerUnderTest) -> None:
    first, second = await server.new_agent(), await server.new_agent()
    [made] = await server.admin.create_entries([entry("/web", first.spiffe_id)])
    [(chain)] = await first.client.sign_x509([(made.id, new_csr())])
    assert isinstance(chain, tuple)
    await first.client.sign_jwt(made.id, ["db"])
    await first.client.renew(new_csr())
    await server.admin.ban_agent(second.spiffe_id)
    async with contextlib.aclosing(first.client.sync(0)) as updates:
        await anext(updates)
        found = await fresh(server)
        assert value(found, "meshtls_server_agents_connected") == 1
    issued = "meshtls_server_svids_issued_total"
    assert value(found, issued, type="x509") == 4  # two attestations, one entry, one renewal
    assert value(found, issued, type="jwt") == 1
    assert value(found, issued, type="ca") == 0
    assert value(found, "meshtls_server_signing_duration_seconds_count", type="x509") == 4
    assert (value(found, "meshtls_server_signing_duration_seconds_sum", type="jwt") or 0) > 0
    assert value(found, "meshtls_server_signing_failures_total") == 0
    assert value(found, "meshtls_server_entries") == 1
    assert value(found, "meshtls_server_agents", state="attested") == 1
    assert value(found, "meshtls_server_agents", state="banned") == 1
    assert value(found, "meshtls_server_agents", state="expired") == 0


async def test_a_request_that_cannot_be_signed_is_a_failure_and_issues_nothing(server: ServerUnderTest) -> None:
    agent = await server.new_agent()
    before = await scraped(server.running.metrics)
    with pytest.raises(RequestError):
        await agent.client.renew(b"no CSR")
    failures = "meshtls_server_signing_failures_total"
    found = await scraped_until(server.running.metrics, lambda found: value(found, failures) != 0)
    assert value(found, failures, type="x509", reason="request") == 1
    assert value(found, failures) == 1
    assert calls(found, "Node/RenewAgent", "INVALID_ARGUMENT") == 1
    issued = "meshtls_server_svids_issued_total"
    assert value(found, issued, type="x509") == value(before, issued, type="x509") == 1


async def test_authorities_are_told_by_kind_and_state_with_their_end(server: ServerUnderTest) -> None:
    before = await fresh(server)
    bundle = await server.admin.bundle()
    [root] = bundle.x509_authorities
    number, expiry = "meshtls_server_authorities", "meshtls_server_authority_expiry_timestamp_seconds"
    assert value(before, number, kind="x509", state="active") == 1
    assert value(before, number, kind="jwt", state="active") == 1
    assert value(before, number, state="prepared") == 0
    assert value(before, expiry, kind="x509", state="active") == root.not_valid_after_utc.timestamp()
    assert value(before, expiry, kind="x509", state="prepared") is None
    left = value(before, "meshtls_server_authority_remaining_seconds", kind="x509", state="active")
    assert left is not None
    assert left == pytest.approx(root.not_valid_after_utc.timestamp() - time.time(), abs=60)
    await server.admin.prepare_authority("jwt")
    after = await fresh(server)
    assert value(after, number, kind="jwt", state="prepared") == 1
    assert value(after, number, kind="jwt", state="active") == 1


async def test_the_ends_of_the_signing_chain_are_those_of_its_certificates(server: ServerUnderTest) -> None:
    agent = await server.new_agent()
    found = await scraped(server.running.metrics)
    expiry = "meshtls_server_ca_expiry_timestamp_seconds"
    intermediate = agent.svid.chain[1]
    assert value(found, expiry, certificate="intermediate") == intermediate.not_valid_after_utc.timestamp()
    [root] = agent.bundle.x509_authorities
    assert value(found, expiry, certificate="root") == root.not_valid_after_utc.timestamp()


async def test_the_servers_own_svid_and_build_are_told(server: ServerUnderTest) -> None:
    found = await scraped(server.running.metrics)
    assert value(found, "meshtls_svid_valid") == 1
    [expiry] = [one for (name, _), one in found.items() if name == "meshtls_svid_expiry_timestamp_seconds"]
    assert expiry > time.time()
    assert value(found, "meshtls_bundle_sequence", trust_domain=str(TD)) == (await server.admin.bundle()).sequence
    assert value(found, "meshtls_build_info", component="server") == 1
    assert value(found, "meshtls_ready") == 1


async def test_the_gauge_of_revocations_counts_each_kind(server: ServerUnderTest) -> None:
    agent = await server.new_agent()
    [made] = await server.admin.create_entries([entry("/web", agent.spiffe_id)])
    await agent.client.sign_x509([(made.id, new_csr())])
    kinds = "meshtls_server_revocations"
    assert value(await scraped(server.running.metrics), kinds) == 0
    await server.admin.revoke(Subject(SubjectKind.SPIFFE_ID, str(SpiffeId(TD, "/web"))))
    await server.admin.revoke(Subject(SubjectKind.ENTRY, made.id))
    found = await scraped_until(server.running.metrics, lambda found: value(found, kinds, kind="certificate") == 1)
    assert value(found, kinds, kind="spiffe_id") == 1
    assert value(found, kinds, kind="entry") == 1


async def test_the_logs_grow_with_what_is_issued(server: ServerUnderTest) -> None:
    before = await fresh(server)
    await server.new_agent()
    after = await fresh(server)
    leaves, records = "meshtls_server_log_leaves", "meshtls_server_audit_records"
    assert (value(after, leaves, state="appended") or 0) > (value(before, leaves, state="appended") or 0) > 0
    assert value(after, records) == (await server.admin.audit_head()).number
    signed = await scraped_until(
        server.running.metrics,
        lambda found: value(found, leaves, state="signed") == value(found, leaves, state="appended"),
    )
    assert (value(signed, leaves, state="signed") or 0) >= (value(after, leaves, state="appended") or 0)
    assert value(signed, "meshtls_server_log_failures_total") == 0
    assert value(signed, "meshtls_server_log_refused") == 0


async def test_the_view_follows_the_store(server: ServerUnderTest) -> None:
    before = await scraped(server.running.metrics)
    agent = await server.new_agent()
    await server.admin.create_entries([entry("/web", agent.spiffe_id)])
    after = await scraped_until(
        server.running.metrics,
        lambda found: (value(found, "meshtls_server_revision") or 0) > (value(before, "meshtls_server_revision") or 0),
    )
    assert (value(after, "meshtls_server_store_sync_lag_seconds") or 0) < 30
    assert value(after, "meshtls_server_store_sync_failures_total") == 0
    for operation in ("read", "write"):
        count = value(after, "meshtls_server_store_duration_seconds_count", operation=operation)
        assert (count or 0) > (value(before, "meshtls_server_store_duration_seconds_count", operation=operation) or 0)
        assert value(after, "meshtls_server_store_failures_total", operation=operation) == 0
    assert value(after, "meshtls_server_store_up") == 1


async def test_a_store_that_is_gone_shows_and_leaves_its_own_numbers_out(
    tmp_path: Path, own_postgres: Postgres
) -> None:
    config = config_for(tmp_path, postgres_url(own_postgres.new_database()), metrics=ANYWHERE)
    async with started(config) as server:
        assert value(await scraped(server.running.metrics), "meshtls_server_entries") == 0
        own_postgres.kill()
        found = await scraped_until(
            server.running.metrics,
            lambda found: (
                value(found, "meshtls_server_store_up") == 0
                and value(found, "meshtls_server_store_sync_failures_total") != 0
                and value(found, "meshtls_server_log_failures_total") != 0
            ),
        )
        assert value(found, "meshtls_ready") == 0
        assert (value(found, "meshtls_server_store_failures_total", operation="read") or 0) > 0
        assert (value(found, "meshtls_server_store_sync_lag_seconds") or 0) > 0
        for name in ("entries", "agents", "audit_records", "authorities", "authority_remaining_seconds"):
            assert value(found, f"meshtls_server_{name}") is None
        assert value(found, "meshtls_svid_valid") == 1
        own_postgres.start()
        back = await scraped_until(server.running.metrics, lambda found: value(found, "meshtls_server_store_up") == 1)
        assert value(back, "meshtls_server_entries") == 0
        assert value(back, "meshtls_ready") == 1


async def test_another_trust_domain_is_told_by_its_bundle_and_what_came_of_asking(server: ServerUnderTest) -> None:
    async with partner("b.test") as b:
        b.answers["/"] = answer(b.document(spiffe_sequence=41))
        await server.admin.create_relation(b.relation(), b.bundle)
        await server.admin.refresh_relation(b.domain)
        mine = {"trust_domain": "b.test"}
        found = await scraped(server.running.metrics)
        fetches, stale = "meshtls_server_federation_fetches_total", "meshtls_server_federation_stale"
        assert (value(found, fetches, result="success", **mine) or 0) >= 1
        assert value(found, fetches, result="failure", **mine) is None
        assert value(found, stale, **mine) == 0
        assert value(found, "meshtls_server_federation_bundle_sequence", **mine) == 41
        since = value(found, "meshtls_server_federation_last_success_timestamp_seconds", **mine)
        assert since == pytest.approx(time.time(), abs=60)
        b.answers["/"] = answer(b"no bundle")
        await server.admin.refresh_relation(b.domain)
        found = await scraped_until(server.running.metrics, lambda found: value(found, stale, **mine) == 1)
        assert value(found, fetches, result="failure", **mine) == 1
        assert value(found, "meshtls_server_federation_bundle_sequence", **mine) == 41
        await server.admin.delete_relation(TrustDomain("b.test"))
        await scraped_until(server.running.metrics, lambda found: value(found, stale, **mine) is None)


async def test_a_refused_connection_is_counted_by_listener_and_reason(server: ServerUnderTest) -> None:
    reader, writer = await asyncio.open_connection(*server.running.address)
    with contextlib.closing(writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        with contextlib.suppress(ConnectionError):
            await reader.read()
    refused = "meshtls_server_connections_refused_total"
    found = await scraped_until(server.running.metrics, lambda found: value(found, refused) is not None)
    assert value(found, refused, listener="server port", reason="TLS") == 1
    assert value(found, refused) == 1


async def test_no_token_or_name_of_a_caller_is_in_a_scrape(server: ServerUnderTest) -> None:
    token = await server.admin.create_join_token()
    agent = await server.new_agent()
    await server.admin.create_entries([entry("/secret-path", agent.spiffe_id, hint='"}\n# hint')])
    with pytest.raises(AccessError):
        await (await server.attestation()).with_token("a-wrong-token", new_csr())
    jwt = await server.admin.mint_jwt(SpiffeId(TD, "/web"), ["db"], timedelta(minutes=5))
    assert server.running.metrics is not None
    for accept in ("", OPENMETRICS):
        _, content = await get(server.running.metrics, accept=accept)
        assert calls(samples(content), "Attestation/AttestAgent", "PERMISSION_DENIED") == 1
        for hidden in (token.token, "a-wrong-token", "secret-path", "# hint", jwt, agent.spiffe_id.path):
            assert hidden not in content


async def test_the_admin_interface_has_the_same_metrics(tmp_path: Path) -> None:
    socket = tmp_path / "a.sock"
    config = replace(config_for(tmp_path), admin=AdminKeys(socket=socket))
    async with started(config) as server:
        assert server.running.metrics is None
        await server.admin.bundle()
        got = await ask(socket, "/stats/prometheus", Accept=OPENMETRICS)
        assert got.status == 200
        assert calls(samples(got.body), "Bundles/GetBundle") == 1


@pytest.mark.parametrize(
    ("path", "status", "content"),
    [
        ("/stats/prometheus", "200 OK", None),
        ("/", "404 Not Found", "wanted /metrics or /stats/prometheus\n"),
        ("/metrics/", "404 Not Found", "wanted /metrics or /stats/prometheus\n"),
    ],
)
async def test_only_the_scrape_paths_are_answered(tmp_path: Path, path: str, status: str, content: str | None) -> None:
    async with started(config_for(tmp_path, metrics=ANYWHERE)) as server:
        assert server.running.metrics is not None
        head, body = await get(server.running.metrics, path)
        assert head.startswith(f"HTTP/1.1 {status}\r\n")
        assert content in (None, body)
