"""A real agent of a real server is scraped over HTTP, and what it says is read by the parsers of Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from grpclib import GRPCError
from grpclib.client import Channel, UnaryUnaryMethod

from meshtls.admin.keys import AdminKeys
from meshtls.agent.config import parse_config
from meshtls.agent.metrics.families import FAMILIES
from meshtls.agent.run import RunningAgent, running_agent
from meshtls.clock import Clock, SystemClock
from meshtls.proto import workload_pb
from meshtls.proto.envoy import discovery_pb
from meshtls.proto.envoy.secret_grpc import SecretDiscoveryServiceStub
from meshtls.registration import Entry
from meshtls.serverapi.values import Subject, SubjectKind
from meshtls.spiffeid import SpiffeId
from meshtls.workload.client import WorkloadApiClient
from meshtls.workload.failures import WorkloadApiError
from tests.support.admin import ask
from tests.support.agent import SELF, short_directory
from tests.support.clock import ManualClock
from tests.support.scraping import OPENMETRICS, Found, get, names_in, samples, scraped, scraped_until, value
from tests.support.server import TD, ServerUnderTest, config_for, entry, started
from tests.support.waiting import SECONDS

WORKLOAD, SDS = "/SpiffeWorkloadAPI/", "/envoy.service.secret.v3.SecretDiscoveryService/"
#: What an agent without refusals, failures and CRLs has no sample of.
_OF_EVENTS = {
    "meshtls_agent_connections_refused_total",
    "meshtls_agent_sync_failures_total",
    "meshtls_metrics_other_total",
}


@dataclass
class Site:
    """A server, and an agent of it with the entry /web for the process that runs the test."""

    server: ServerUnderTest
    running: RunningAgent
    web: Entry

    @property
    def agent(self) -> str:
        return self.running.agent.address

    async def found(self) -> Found:
        return await scraped(self.running.metrics)


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as made:
        yield made


@asynccontextmanager
async def site(
    directory: Path, clock: Clock | None = None, admin: AdminKeys | None = None, limits: str = ""
) -> AsyncIterator[Site]:
    """Enters once the agent has the SVID of /web. ``clock`` is the agent's."""
    clock = clock or SystemClock()
    async with started(config_for(directory)) as server:
        token = await server.admin.create_join_token()
        [web] = await server.admin.create_entries([entry("/web", token.agent_id, SELF)])
        bundle = directory / "bundle.json"
        bundle.write_text((await server.admin.bundle()).to_jwks())
        (host, port), (_, attest) = server.running.address, server.running.attest_address
        text = (
            f"trust_domain: {TD}\nserver_address: {host}\nserver_port: {port}\nattest_port: {attest}\n"
            f"trust_bundle_path: {bundle}\nsocket_path: {directory / 'agent.sock'}\ndata_dir: {directory / 'agent'}\n"
            f"join_token: {token.token}\nmetrics: {{listen: '127.0.0.1:0'}}\n{limits}"
        )
        async with running_agent(replace(parse_config("agent.yaml", text), admin=admin), clock) as running:
            async with asyncio.timeout(SECONDS):
                await running.agent.ready()
            yield Site(server, running, web)


@asynccontextmanager
async def client_of(here: Site) -> AsyncIterator[WorkloadApiClient]:
    async with WorkloadApiClient(here.agent, clock=here.running.agent.identities.clock) as client:
        yield client


def calls(found: Found, method: str, code: str = "OK") -> float | None:
    return value(found, "meshtls_agent_rpcs_total", method=method, code=code)


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_a_scrape_has_every_declared_family_and_no_other(directory: Path, accept: str) -> None:
    async with site(directory) as here, client_of(here) as client:
        await client.fetch_x509_context()
        await client.fetch_jwt_svids(["db"])
        await scraped_until(here.running.metrics, lambda found: value(found, "meshtls_agent_rpcs_total") == 2)
        assert here.running.metrics is not None
        _, content = await get(here.running.metrics, accept=accept)
        assert samples(content)
        declared = {family.base if accept else family.name for family in FAMILIES}
        of_events = _OF_EVENTS | {name.removesuffix("_total") for name in _OF_EVENTS}
        assert names_in(content) - of_events == declared - of_events


async def test_the_svids_that_the_agent_serves_and_its_own_are_told(directory: Path) -> None:
    async with site(directory) as here, client_of(here) as client:
        svid = (await client.fetch_x509_context()).svid
        await client.fetch_jwt_svids(["db"])
        found = await here.found()
        assert value(found, "meshtls_agent_synced") == 1
        assert 0 <= (value(found, "meshtls_agent_sync_lag_seconds") or -1) < SECONDS
        assert value(found, "meshtls_agent_entries") == 1
        svids = "meshtls_agent_svids"
        assert {state: value(found, svids, state=state) for state in ("valid", "expired", "missing")} == {
            "valid": 1,
            "expired": 0,
            "missing": 0,
        }
        expiry = value(found, "meshtls_agent_next_svid_expiry_timestamp_seconds")
        assert expiry == svid.not_after.timestamp()
        age = value(found, "meshtls_agent_oldest_svid_age_seconds")
        assert age == pytest.approx(time.time() - svid.not_before.timestamp(), abs=SECONDS)
        assert value(found, "meshtls_agent_jwt_svids") == 1
        rotations = "meshtls_agent_svid_rotations_total"
        assert value(found, rotations, result="issued") == value(found, rotations) == 1
        sequence = (await here.server.admin.bundle()).sequence
        assert value(found, "meshtls_agent_bundle_sequence", trust_domain=str(TD)) == sequence
        own = "meshtls_agent_own_svid_rotations_total"
        assert value(found, own, result="attested") == value(found, own) == 1
        [agent] = [one async for one in here.server.admin.agents()]
        assert value(found, "meshtls_svid_expiry_timestamp_seconds", spiffe_id=str(agent.spiffe_id)) == (
            agent.not_after.timestamp()
        )
        assert value(found, "meshtls_svid_valid") == value(found, "meshtls_ready") == 1
        assert value(found, "meshtls_build_info", component="agent") == 1


async def test_calls_streams_and_workloads_are_counted(directory: Path) -> None:
    async with site(directory) as here:
        before = await here.found()
        assert value(before, "meshtls_agent_workloads") == value(before, "meshtls_agent_streams") == 0
        sds = Channel(path=str(here.running.agent.endpoint.socket_path))
        async with client_of(here) as client:
            async with (
                contextlib.aclosing(client.watch_x509_contexts()) as contexts,
                SecretDiscoveryServiceStub(sds).StreamSecrets.open(timeout=SECONDS) as stream,
            ):
                await anext(contexts)
                await stream.send_message(discovery_pb.DiscoveryRequest(resource_names=["default"]))
                assert await stream.recv_message() is not None
                streams = "meshtls_agent_streams"
                found = await scraped_until(here.running.metrics, lambda found: value(found, streams) == 2)
                assert value(found, streams, api="workload") == value(found, streams, api="sds") == 1
                assert value(found, streams, api="health") == 0
                assert value(found, "meshtls_agent_workloads") == 1  # both connections are this process's
                assert calls(found, f"{WORKLOAD}FetchX509SVID") is None  # it has not ended
                await stream.cancel()
            await client.fetch_jwt_svids(["db"])
            found = await scraped_until(
                here.running.metrics,
                lambda found: (
                    value(found, "meshtls_agent_streams") == 0
                    and calls(found, f"{WORKLOAD}FetchX509SVID", "CANCELLED") == 1
                    and calls(found, f"{SDS}StreamSecrets", "CANCELLED") == 1
                ),
            )
        sds.close()
        assert calls(found, f"{WORKLOAD}FetchJWTSVID") == 1
        duration = "meshtls_agent_rpc_duration_seconds_count"
        assert value(found, duration, method=f"{WORKLOAD}FetchJWTSVID") == value(found, duration) == 1
        assert (value(found, "meshtls_agent_attestation_duration_seconds_count") or 0) >= 3
        await scraped_until(here.running.metrics, lambda found: value(found, "meshtls_agent_workloads") == 0)


async def test_a_caller_without_an_entry_is_denied_and_one_with_an_entry_is_not(directory: Path) -> None:
    async with site(directory) as here, client_of(here) as client:
        await client.fetch_x509_context()
        denials = "meshtls_agent_denials_total"
        assert value(await here.found(), denials) == 0
        await here.server.admin.delete_entries([here.web.id])
        await scraped_until(here.running.metrics, lambda found: value(found, "meshtls_agent_entries") == 0)
        with pytest.raises(WorkloadApiError, match="no identity issued"):
            await client.fetch_x509_context()
        found = await scraped_until(
            here.running.metrics, lambda found: calls(found, f"{WORKLOAD}FetchX509SVID", "PERMISSION_DENIED") == 1
        )
        assert value(found, denials, reason="no_identity") == value(found, denials) == 1


async def test_a_caller_that_has_ended_is_denied_since_it_cannot_be_attested(directory: Path) -> None:
    async with site(directory) as here:
        path = here.running.agent.endpoint.socket_path
        # The kernel names the process that has connected, which has ended when the call comes.
        with contextlib.closing(_connection_of_a_process_that_ended(path)) as left:
            reader, writer = await asyncio.open_unix_connection(sock=left)
            del reader
            with contextlib.closing(writer):
                writer.write(_a_call(f"{WORKLOAD}FetchX509Bundles"))
                found = await scraped_until(
                    here.running.metrics, lambda found: value(found, "meshtls_agent_denials_total") != 0
                )
        assert value(found, "meshtls_agent_denials_total", reason="attestation_failed") == 1
        assert value(found, "meshtls_agent_denials_total") == 1


async def test_an_agent_that_its_server_refuses_is_not_synced_and_denies_its_callers(directory: Path) -> None:
    async with site(directory) as here, client_of(here) as client:
        await client.fetch_x509_context()
        [agent] = [one async for one in here.server.admin.agents()]
        await here.server.admin.ban_agent(agent.spiffe_id)
        failures = "meshtls_agent_sync_failures_total"
        found = await scraped_until(
            here.running.metrics, lambda found: value(found, failures, reason="refused") is not None
        )
        found = await scraped_until(here.running.metrics, lambda found: value(found, "meshtls_agent_synced") == 0)
        assert value(found, "meshtls_svid_valid") == value(found, "meshtls_ready") == 0
        with pytest.raises(WorkloadApiError, match="no identity issued"):
            await client.fetch_x509_context()
        found = await scraped_until(
            here.running.metrics,
            lambda found: value(found, "meshtls_agent_denials_total", reason="agent_refused") != 0,
        )
        assert value(found, failures, reason="unreachable") is None
        # Its token is used up, so that it can't attest again.
        found = await scraped_until(
            here.running.metrics,
            lambda found: value(found, "meshtls_agent_own_svid_rotations_total", result="failed") is not None,
        )


async def test_a_server_that_is_gone_lets_the_lag_grow_and_is_a_failure(directory: Path) -> None:
    clock = ManualClock()
    async with contextlib.AsyncExitStack() as server_open:
        server = await server_open.enter_async_context(started(config_for(directory), clock))
        token = await server.admin.create_join_token()
        await server.admin.create_entries([entry("/web", token.agent_id, SELF)])
        bundle = directory / "bundle.json"
        bundle.write_text((await server.admin.bundle()).to_jwks())
        (host, port), (_, attest) = server.running.address, server.running.attest_address
        text = (
            f"trust_domain: {TD}\nserver_address: {host}\nserver_port: {port}\nattest_port: {attest}\n"
            f"trust_bundle_path: {bundle}\nsocket_path: {directory / 'agent.sock'}\nkey_manager: {{memory: {{}}}}\n"
            f"join_token: {token.token}\nmetrics: {{listen: '127.0.0.1:0'}}\n"
        )
        async with running_agent(parse_config("agent.yaml", text), clock) as running:
            await running.agent.ready()
            assert value(await scraped(running.metrics), "meshtls_agent_sync_failures_total") is None
            await server_open.aclose()
            failures = "meshtls_agent_sync_failures_total"
            found = await scraped_until(
                running.metrics, lambda found: value(found, failures, reason="unreachable") is not None
            )
            before = value(found, "meshtls_agent_sync_lag_seconds")
            assert before is not None
            clock.advance(100)
            found = await scraped_until(
                running.metrics, lambda found: (value(found, "meshtls_agent_sync_lag_seconds") or 0) >= before + 100
            )
            assert value(found, "meshtls_agent_synced") == 1
            assert value(found, "meshtls_agent_svids", state="valid") == 1


async def test_a_renewal_is_counted_and_so_is_one_of_the_agent_itself(directory: Path) -> None:
    clock = ManualClock()
    async with site(directory, clock) as here:
        clock.advance(2100)  # more than half of an SVID's hour with any jitter
        rotations, own = "meshtls_agent_svid_rotations_total", "meshtls_agent_own_svid_rotations_total"
        found = await scraped_until(
            here.running.metrics,
            lambda found: value(found, rotations, result="renewed") == 1 and value(found, own, result="renewed") == 1,
        )
        assert value(found, rotations, result="issued") == 1
        assert value(found, rotations, result="failed") is None
        assert value(found, own, result="attested") == 1


async def test_crls_and_what_they_list_are_told(directory: Path) -> None:
    async with site(directory) as here:
        assert value(await here.found(), "meshtls_agent_revoked_certificates") == 0
        await here.server.admin.revoke(Subject(SubjectKind.SPIFFE_ID, str(SpiffeId(TD, "/web"))))
        found = await scraped_until(
            here.running.metrics, lambda found: value(found, "meshtls_agent_revoked_certificates") == 1
        )
        assert (value(found, "meshtls_agent_crls") or 0) >= 1


async def test_an_idle_connection_that_makes_place_for_a_newer_one_is_counted_as_evicted(directory: Path) -> None:
    async with site(directory, limits="limits: {connections_per_caller: 1}\n") as here:
        path = str(here.running.agent.endpoint.socket_path)
        refused = "meshtls_agent_connections_refused_total"
        assert value(await here.found(), refused) is None
        async with contextlib.AsyncExitStack() as opened:
            for _ in range(2):
                _, writer = await asyncio.open_unix_connection(path)
                opened.callback(writer.close)
            await scraped_until(here.running.metrics, lambda found: value(found, refused, reason="EVICTED") == 1)
            assert value(await here.found(), refused) == 1


async def test_no_key_token_or_name_of_a_caller_is_in_a_scrape(directory: Path) -> None:
    async with site(directory) as here, client_of(here) as client:
        [token] = await client.fetch_jwt_svids(['"}\n# db'])
        channel = Channel(path=str(here.running.agent.endpoint.socket_path))
        hostile = UnaryUnaryMethod(
            channel, '/meshtls."}\\evil/Nothing', workload_pb.JWTSVIDRequest, workload_pb.JWTSVIDResponse
        )
        with pytest.raises(GRPCError):
            await hostile(workload_pb.JWTSVIDRequest())
        channel.close()
        assert here.running.metrics is not None
        for accept in ("", OPENMETRICS):
            _, content = await get(here.running.metrics, accept=accept)
            assert calls(samples(content), f"{WORKLOAD}FetchJWTSVID") == 1
            for hidden in (token.token, "# db", "evil", "PRIVATE", "unix:uid", "/web"):
                assert hidden not in content


async def test_the_admin_interface_has_the_same_metrics(directory: Path) -> None:
    interface = directory / "admin.sock"
    async with site(directory, admin=AdminKeys(socket=interface)) as here, client_of(here) as client:
        await client.fetch_jwt_svids(["db"])
        got = await ask(interface, "/stats/prometheus", Accept=OPENMETRICS)
        assert got.status == 200
        assert calls(samples(got.body), f"{WORKLOAD}FetchJWTSVID") == 1


def _connection_of_a_process_that_ended(path: Path) -> socket.socket:
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(str(path))
        socket.send_fds(theirs, [b"x"], [connected.fileno()])
        os._exit(0)
    os.waitpid(child, 0)
    with ours, theirs:
        _, [descriptor], _, _ = socket.recv_fds(ours, 1, 1)
    return socket.socket(fileno=descriptor)


def _a_call(method: str) -> bytes:
    """An HTTP/2 connection with one call of this method."""
    from h2.config import H2Configuration
    from h2.connection import H2Connection

    made = H2Connection(H2Configuration(client_side=True))
    made.initiate_connection()
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("workload.spiffe.io", "true"),
    ]
    made.send_headers(1, fields)
    made.send_data(1, bytes(5), end_stream=True)
    return made.data_to_send()
