"""The agent's Workload API over a real socket, by our own client and by calls that our client would not make."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from google.protobuf.json_format import MessageToDict
from grpclib import GRPCError, Status
from grpclib.client import Channel, UnaryUnaryMethod

from meshtls.agent.service import Agent, Endpoint
from meshtls.bundle import BundleSet
from meshtls.errors import InvalidSvidError, LocalIdentityError, RequestError
from meshtls.proto import workload_pb as pb
from meshtls.proto.workload_grpc import SpiffeWorkloadAPIStub
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.context import X509Context
from meshtls.workload.audience import MOST_BYTES
from meshtls.workload.client import WorkloadApiClient
from meshtls.workload.failures import WorkloadApiError
from meshtls.workload.x509_source import X509Source
from tests.support.agent import OURS, SELF, Mesh, agent_at, entry, eventually, http_get
from tests.support.authority import make_authority
from tests.support.waiting import SECONDS

T = TypeVar("T")
HEADER = {"workload.spiffe.io": "true"}
WEB = SpiffeId(OURS, "/web")
CALLS: Mapping[str, Callable[[SpiffeWorkloadAPIStub, Mapping[str, str]], Any]] = {
    "FetchX509SVID": lambda api, header: _first(api.FetchX509SVID, pb.X509SVIDRequest(), header),
    "FetchX509Bundles": lambda api, header: _first(api.FetchX509Bundles, pb.X509BundlesRequest(), header),
    "FetchJWTBundles": lambda api, header: _first(api.FetchJWTBundles, pb.JWTBundlesRequest(), header),
    "FetchJWTSVID": lambda api, header: api.FetchJWTSVID(
        pb.JWTSVIDRequest(audience=["db"]), metadata=header, timeout=SECONDS
    ),
    "ValidateJWTSVID": lambda api, header: api.ValidateJWTSVID(
        pb.ValidateJWTSVIDRequest(audience="db", svid="x"), metadata=header, timeout=SECONDS
    ),
}


async def _first(method: Any, request: Any, header: Mapping[str, str]) -> Any:
    async with method.open(metadata=header, timeout=SECONDS) as stream:
        await stream.send_message(request, end=True)
        message = await stream.recv_message()
        if message is not None:
            await stream.cancel()
        return message


@asynccontextmanager
async def raw_api(mesh: Mesh) -> AsyncIterator[SpiffeWorkloadAPIStub]:
    channel = Channel(path=str(mesh.agent.endpoint.socket_path))
    try:
        yield SpiffeWorkloadAPIStub(channel)
    finally:
        channel.close()


@pytest.fixture
async def api(mesh: Mesh) -> AsyncIterator[SpiffeWorkloadAPIStub]:
    async with raw_api(mesh) as stub:
        yield stub


def paths(context: X509Context) -> list[str]:
    return [svid.spiffe_id.path for svid in context.svids]


@asynccontextmanager
async def watching(client: WorkloadApiClient) -> AsyncIterator[AsyncGenerator[X509Context]]:
    async with aclosing(client.watch_x509_contexts()) as contexts:
        yield contexts


# A caller's SVIDs and bundles


async def test_a_caller_gets_its_svid_with_its_key_and_the_bundle_of_its_own_trust_domain(
    mesh: Mesh, client: WorkloadApiClient
) -> None:
    context = await client.fetch_x509_context()
    assert context.svid.spiffe_id == WEB
    assert context.svid.chain[1] == mesh.authority.intermediate.certificate
    assert context.bundles == BundleSet([mesh.authority.bundle])


async def test_federated_bundles_come_with_the_entry_that_asks_for_them(mesh: Mesh, client: WorkloadApiClient) -> None:
    async with watching(client) as contexts:
        assert len((await anext(contexts)).bundles) == 1
        mesh.upstream.put_entry(entry("/web", federates_with=["partner.org"]))
        assert {str(bundle.trust_domain) for bundle in (await anext(contexts)).bundles} == {
            "example.org",
            "partner.org",
        }
        bundles = await client.fetch_x509_bundles()
        assert {str(bundle.trust_domain) for bundle in bundles} == {"example.org", "partner.org"}


async def test_several_svids_come_oldest_entry_first_with_hints_that_are_unique(directory: Path) -> None:
    entries = [
        entry("/z"),
        entry("/b", hint="x"),
        entry("/a", hint="x"),
        entry("/c", SELF, *_second_selector(), hint="y"),
    ]
    async with agent_at(directory / "agent.sock", *entries) as mesh, WorkloadApiClient(mesh.agent.address) as client:
        context = await client.fetch_x509_context()
    assert [(svid.spiffe_id.path, svid.hint) for svid in context.svids] == [("/z", ""), ("/b", "x"), ("/c", "y")]


def _second_selector() -> tuple[str, ...]:
    return (SELF.replace("uid", "gid"),) if SELF.endswith(":0") else (SELF,)


async def test_jwt_bundles_hold_jwt_keys_only(mesh: Mesh, api: SpiffeWorkloadAPIStub) -> None:
    answer = await CALLS["FetchJWTBundles"](api, HEADER)
    [(name, document)] = answer.bundles.items()
    assert name == "spiffe://example.org"
    assert document.count(b'"use": "jwt-svid"') == 1
    assert b"x509-svid" not in document


# Pushed changes


async def test_a_new_entry_is_pushed_and_a_deleted_one_is_withdrawn(mesh: Mesh, client: WorkloadApiClient) -> None:
    async with watching(client) as contexts:
        assert paths(await anext(contexts)) == ["/web"]
        mesh.upstream.put_entry(entry("/db"))
        assert paths(await anext(contexts)) == ["/web", "/db"]
        mesh.upstream.remove_entry("/web")
        assert paths(await anext(contexts)) == ["/db"]
    assert mesh.clock.monotonic() == 0


async def test_each_svid_is_renewed_at_half_life_with_a_new_key(mesh: Mesh, client: WorkloadApiClient) -> None:
    async with watching(client) as contexts:
        old = (await anext(contexts)).svid
        await mesh.clock.until_sleepers(1)
        mesh.clock.advance(1799)
        assert (await client.fetch_x509_context()).svid.serial == old.serial
        await mesh.clock.until_sleepers(1)
        mesh.clock.advance(1)
        new = (await anext(contexts)).svid
    assert new.serial != old.serial
    assert new.private_key.public_key() != old.private_key.public_key()
    assert new.not_after - old.not_after == timedelta(minutes=30)


@pytest.mark.parametrize(("jitter", "seconds"), [(-1.0, 1620), (1.0, 1980)])
async def test_half_life_is_up_to_ten_percent_early_or_late(directory: Path, jitter: float, seconds: int) -> None:
    path = directory / "agent.sock"
    async with (
        agent_at(path, entry("/web"), jitter=jitter) as mesh,
        WorkloadApiClient(mesh.agent.address) as client,
        watching(client) as contexts,
    ):
        old = await anext(contexts)
        await mesh.clock.until_sleepers(1)
        mesh.clock.advance(seconds - 1)
        assert (await client.fetch_x509_context()).svid.serial == old.svid.serial
        await mesh.clock.until_sleepers(1)
        mesh.clock.advance(1)
        assert (await anext(contexts)).svid.serial != old.svid.serial


async def test_a_new_federated_bundle_is_pushed_to_those_it_concerns(mesh: Mesh, client: WorkloadApiClient) -> None:
    mesh.upstream.put_entry(entry("/web", federates_with=["partner.org"]))
    newer = make_authority("partner.org").bundle
    async with watching(client) as contexts:
        await anext(contexts)
        mesh.upstream.put_bundle(newer)
        assert (await anext(contexts)).bundles[TrustDomain("partner.org")] == newer


async def test_a_change_that_concerns_other_workloads_is_not_pushed(mesh: Mesh, client: WorkloadApiClient) -> None:
    async with watching(client) as contexts:
        await anext(contexts)
        mesh.upstream.put_entry(entry("/other", "unix:uid:4242"))
        mesh.upstream.put_bundle(make_authority("partner.org").bundle)
        mesh.upstream.put_entry(entry("/db"))
        assert paths(await anext(contexts)) == ["/web", "/db"]


async def test_a_slow_reader_gets_only_the_newest_state(mesh: Mesh) -> None:
    # The window is smaller than a message, so the first message is in flight until the client reads.
    many = [
        entry(f"/web-{number}", dns_names=tuple(f"{'x' * 50}-{i}.example.org" for i in range(40)))
        for number in range(40)
    ]
    for one in many:
        mesh.upstream.put_entry(one)
    await mesh.agent.ready()
    async with raw_api(mesh) as api, api.FetchX509SVID.open(metadata=HEADER) as stream:
        await stream.send_message(pb.X509SVIDRequest(), end=True)
        assert len((await _received(stream)).svids) == 41
        for change in range(30):
            mesh.upstream.put_entry(entry(f"/late-{change}"))
            await mesh.agent.ready()
        seen = [len((await _received(stream)).svids)]
        while seen[-1] < 71:
            seen.append(len((await _received(stream)).svids))
        await stream.cancel()
    assert seen == sorted(seen)
    assert len(seen) < 30


async def _received(stream: Any) -> pb.X509SVIDResponse:
    message = await stream.recv_message()
    assert isinstance(message, pb.X509SVIDResponse)
    return message


# Denied callers


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("header", [{}, {"workload.spiffe.io": "false"}, {"workload.spiffe.io": "True"}])
async def test_a_call_without_the_security_header_is_an_invalid_argument(
    api: SpiffeWorkloadAPIStub, method: str, header: Mapping[str, str]
) -> None:
    with pytest.raises(GRPCError) as raised:
        await CALLS[method](api, header)
    assert (raised.value.status, raised.value.message) == (
        Status.INVALID_ARGUMENT,
        "security header missing: wanted metadata workload.spiffe.io: true",
    )


@pytest.mark.parametrize("method", [name for name in CALLS if name != "ValidateJWTSVID"])
async def test_a_call_with_the_security_header_is_answered(api: SpiffeWorkloadAPIStub, method: str) -> None:
    assert await CALLS[method](api, HEADER)


@pytest.mark.parametrize("method", CALLS)
async def test_a_caller_without_an_entry_is_denied(mesh: Mesh, api: SpiffeWorkloadAPIStub, method: str) -> None:
    mesh.upstream.put_entry(entry("/web", "unix:uid:4242"))
    await eventually(lambda: mesh.agent.identities.cache.entries.get("/web") == mesh.upstream.entries[0])
    with pytest.raises(GRPCError) as raised:
        await CALLS[method](api, HEADER)
    assert (raised.value.status, raised.value.message) == (Status.PERMISSION_DENIED, "no identity issued")


async def test_the_log_says_which_selectors_a_denied_caller_had_and_which_entry_came_nearest(
    mesh: Mesh, api: SpiffeWorkloadAPIStub, caplog: pytest.LogCaptureFixture
) -> None:
    mesh.upstream.put_entry(entry("/web", SELF, "unix:path:/no/such/program"))
    await eventually(lambda: mesh.agent.identities.cache.entries.get("/web") == mesh.upstream.entries[0])
    with caplog.at_level(logging.WARNING, "meshtls.agent"):
        with pytest.raises(GRPCError):
            await CALLS["FetchX509SVID"](api, HEADER)
        # Repeated calls are logged once until an entry changes, since the explanation reads all entries.
        with pytest.raises(GRPCError):
            await CALLS["FetchX509SVID"](api, HEADER)
    [record] = caplog.records
    caller = f"(uid {os.getuid()}, gid {os.getgid()}) has no identity: no registration entry matches its selectors "
    assert caller in record.getMessage()
    assert SELF in record.getMessage()
    assert record.getMessage().endswith("near miss: spiffe://example.org/web, missing unix:path:/no/such/program")
    mesh.upstream.put_entry(entry("/web", SELF, "unix:path:/neither/this"))
    await eventually(lambda: mesh.agent.identities.cache.entries.get("/web") == mesh.upstream.entries[0])
    with caplog.at_level(logging.WARNING, "meshtls.agent"), pytest.raises(GRPCError):
        await CALLS["FetchX509SVID"](api, HEADER)
    assert caplog.records[-1].getMessage().endswith("missing unix:path:/neither/this")


@pytest.mark.parametrize("method", ["FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles"])
async def test_an_open_stream_is_denied_when_its_entry_goes(
    mesh: Mesh, api: SpiffeWorkloadAPIStub, method: str
) -> None:
    requests = {
        "FetchX509SVID": pb.X509SVIDRequest,
        "FetchX509Bundles": pb.X509BundlesRequest,
        "FetchJWTBundles": pb.JWTBundlesRequest,
    }
    async with getattr(api, method).open(metadata=HEADER, timeout=SECONDS) as stream:
        await stream.send_message(requests[method](), end=True)
        assert await stream.recv_message()
        mesh.upstream.remove_entry("/web")
        with pytest.raises(GRPCError) as raised:
            await _ended(stream)
    assert raised.value.status is Status.PERMISSION_DENIED


async def _ended(stream: Any) -> None:
    assert await stream.recv_message() is None
    await stream.recv_trailing_metadata()


async def test_an_entry_that_expires_is_taken_back_at_its_time(directory: Path) -> None:
    path = directory / "agent.sock"
    async with agent_at(path, entry("/web")) as mesh, WorkloadApiClient(mesh.agent.address) as client:
        ends = replace(entry("/db"), expires_at=mesh.clock.now() + timedelta(seconds=20))
        async with watching(client) as contexts:
            await anext(contexts)
            mesh.upstream.put_entry(ends)
            assert paths(await anext(contexts)) == ["/web", "/db"]
            await mesh.clock.until_sleepers(1)
            mesh.clock.advance(20)
            assert paths(await anext(contexts)) == ["/web"]


async def test_a_request_that_is_no_message_is_an_invalid_argument(mesh: Mesh) -> None:
    channel = Channel(path=str(mesh.agent.endpoint.socket_path))
    try:
        wrong = UnaryUnaryMethod(channel, "/SpiffeWorkloadAPI/FetchJWTSVID", pb.X509SVID, pb.JWTSVIDResponse)
        with pytest.raises(GRPCError) as raised:
            await wrong(pb.X509SVID(spiffe_id="ok", x509_svid=b"\xff\xfe"), metadata=HEADER, timeout=SECONDS)
    finally:
        channel.close()
    assert raised.value.status is Status.INVALID_ARGUMENT
    assert str(raised.value.message).startswith("the request is no JWTSVIDRequest: ")


# JWT-SVIDs


async def test_without_a_spiffe_id_all_of_the_callers_ids_get_a_token_and_with_one_that_alone(
    mesh: Mesh, client: WorkloadApiClient
) -> None:
    mesh.upstream.put_entry(entry("/db", hint="internal"))
    await eventually(lambda: len(mesh.agent.identities.cache.entries) == 2)
    both = await client.fetch_jwt_svids(["a", "b"])
    assert [(svid.spiffe_id.path, svid.audience, svid.hint) for svid in both] == [
        ("/web", ("a", "b"), ""),
        ("/db", ("a", "b"), "internal"),
    ]
    assert [svid.spiffe_id for svid in await client.fetch_jwt_svids(["a"], WEB)] == [WEB]


async def test_the_longest_audience_gets_a_token_that_validates_and_a_longer_one_is_refused_before_it_is_sent(
    mesh: Mesh, client: WorkloadApiClient
) -> None:
    longest = "x" * (MOST_BYTES - 4)
    [svid] = await client.fetch_jwt_svids([longest])
    assert (await client.validate_jwt_svid(svid.token, longest)).audience == (longest,)
    with pytest.raises(RequestError, match="^JWT-SVID: audience: wanted at most 32768 bytes as JSON, got 32769$"):
        await client.fetch_jwt_svids([longest + "x"])


async def test_the_second_of_two_ids_with_one_hint_gets_a_token_on_request(directory: Path) -> None:
    entries = [entry("/a", hint="x"), entry("/b", hint="x")]
    async with agent_at(directory / "agent.sock", *entries) as mesh, WorkloadApiClient(mesh.agent.address) as client:
        assert [svid.spiffe_id.path for svid in await client.fetch_jwt_svids(["db"])] == ["/a"]
        [second] = await client.fetch_jwt_svids(["db"], SpiffeId(OURS, "/b"))
    assert (second.spiffe_id.path, second.hint) == ("/b", "x")


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        (pb.JWTSVIDRequest(), Status.INVALID_ARGUMENT, "audience: wanted one or more, none of them empty"),
        (
            pb.JWTSVIDRequest(audience=["x" * (MOST_BYTES - 3)]),
            Status.INVALID_ARGUMENT,
            "audience: wanted at most 32768 bytes as JSON, got 32769",
        ),
        (
            pb.JWTSVIDRequest(audience=["x" * 100] * 10_000),
            Status.INVALID_ARGUMENT,
            "audience: wanted at most 32768 bytes as JSON, got 1040000",
        ),
        (
            pb.JWTSVIDRequest(audience=["a", ""]),
            Status.INVALID_ARGUMENT,
            "audience: wanted one or more, none of them empty",
        ),
        (
            pb.JWTSVIDRequest(audience=["a"], spiffe_id="web"),
            Status.INVALID_ARGUMENT,
            "SPIFFE ID 'web': wanted it to start with 'spiffe://'",
        ),
        (
            pb.JWTSVIDRequest(audience=["a"], spiffe_id="spiffe://example.org/db"),
            Status.PERMISSION_DENIED,
            "no identity spiffe://example.org/db was issued to the caller",
        ),
    ],
    ids=[
        "no audience",
        "an audience of one byte too much",
        "many audiences",
        "an empty audience",
        "no SPIFFE ID",
        "another's SPIFFE ID",
    ],
)
async def test_an_impossible_jwt_svid_is_refused(
    api: SpiffeWorkloadAPIStub, request_: pb.JWTSVIDRequest, status: Status, message: str
) -> None:
    with pytest.raises(GRPCError) as raised:
        await api.FetchJWTSVID(request_, metadata=HEADER, timeout=SECONDS)
    assert (raised.value.status, raised.value.message) == (status, message)


async def test_a_token_is_served_from_the_cache_until_its_half_life(mesh: Mesh, client: WorkloadApiClient) -> None:
    first = await client.fetch_jwt_svids(["db"])
    mesh.clock.advance(149)
    assert await client.fetch_jwt_svids(["db"]) == first
    mesh.clock.advance(1)
    assert (await client.fetch_jwt_svids(["db"]))[0].expiry - first[0].expiry == timedelta(seconds=150)


async def test_a_token_lives_as_long_as_its_entry_says(mesh: Mesh, client: WorkloadApiClient) -> None:
    mesh.upstream.put_entry(entry("/web", jwt_ttl=60))
    await eventually(lambda: mesh.agent.identities.cache.entries.get("/web") == mesh.upstream.entries[0])
    [svid] = await client.fetch_jwt_svids(["db"])
    assert svid.expiry - mesh.clock.now() == timedelta(seconds=60)


async def test_a_good_token_is_validated_with_its_claims(client: WorkloadApiClient, api: SpiffeWorkloadAPIStub) -> None:
    [svid] = await client.fetch_jwt_svids(["db"])
    answer = await api.ValidateJWTSVID(
        pb.ValidateJWTSVIDRequest(audience="db", svid=svid.token), metadata=HEADER, timeout=SECONDS
    )
    assert answer.spiffe_id == str(WEB)
    assert (answer.claims["sub"], MessageToDict(answer.claims)["aud"]) == (str(WEB), ["db"])


@pytest.mark.parametrize("wrong", ["tampered", "cut", "another audience", "expired"])
async def test_a_bad_token_is_an_invalid_argument(mesh: Mesh, client: WorkloadApiClient, wrong: str) -> None:
    [svid] = await client.fetch_jwt_svids(["db"])
    header, payload, signature = svid.token.split(".")
    token = {
        "tampered": f"{header}.{payload}.{signature[::-1]}",
        "cut": f"{header}.{payload}",
    }.get(wrong, svid.token)
    if wrong == "expired":
        mesh.clock.advance(301)
    with pytest.raises(InvalidSvidError, match="INVALID_ARGUMENT"):
        await client.validate_jwt_svid(token, "web" if wrong == "another audience" else "db")


async def test_an_empty_audience_cannot_be_validated_for(client: WorkloadApiClient, api: SpiffeWorkloadAPIStub) -> None:
    [svid] = await client.fetch_jwt_svids(["db"])
    with pytest.raises(GRPCError, match="audience: wanted the caller's own name, got nothing") as raised:
        await api.ValidateJWTSVID(pb.ValidateJWTSVIDRequest(svid=svid.token), metadata=HEADER, timeout=SECONDS)
    assert raised.value.status is Status.INVALID_ARGUMENT


# Failures of the agent


class BrokenCa:
    """Implements Upstream: sends one entry, and signs nothing until it is repaired."""

    def __init__(self, mesh: Mesh) -> None:
        self.trust_domain = OURS
        self.trouble: str | None = None
        self.broken = True
        self._real = mesh.upstream

    def watch(self) -> AsyncGenerator[Any]:
        return self._real.watch()

    async def sign_x509(self, requests: Any) -> Any:
        if self.broken:
            raise LocalIdentityError("the CA is on holiday")
        return await self._real.sign_x509(requests)

    async def sign_jwt(self, entry_id: str, audience: Any) -> str:
        if self.broken:
            raise LocalIdentityError("the CA is on holiday")
        return await self._real.sign_jwt(entry_id, audience)


async def test_callers_get_the_reason_while_signing_fails_and_are_served_afterwards(
    mesh: Mesh, directory: Path
) -> None:

    upstream = BrokenCa(mesh)
    async with AsyncExitStack() as stack:
        agent = Agent(Endpoint(directory / "b.sock"), upstream, mesh.clock, jitter=lambda: 0.0)
        await stack.enter_async_context(agent)
        await agent.ready()
        client = await stack.enter_async_context(WorkloadApiClient(agent.address))
        with pytest.raises(WorkloadApiError, match="UNAVAILABLE: no X509-SVID is valid now: the CA is on holiday"):
            await client.fetch_x509_context()
        with pytest.raises(WorkloadApiError, match="UNAVAILABLE: JWT-SVID of spiffe://example.org/web: the CA is on"):
            await client.fetch_jwt_svids(["db"])
        assert len(await client.fetch_x509_bundles()) == 1
        upstream.broken = False
        async with asyncio.timeout(SECONDS):
            source = X509Source(agent.address, clock=mesh.clock)
            async with asyncio.TaskGroup() as tasks:
                entering = tasks.create_task(source.__aenter__())
                await eventually(entering.done, mesh.clock)
        stack.push_async_exit(source)
        assert source.snapshot().svid.spiffe_id == WEB


async def test_health_answers_live_and_ready_and_404_for_other_paths(directory: Path) -> None:
    async with agent_at(directory / "agent.sock", entry("/web"), health=("127.0.0.1", 0)) as mesh:
        port = mesh.agent.health_port
        assert port
        assert await http_get(port, "/live") == ("HTTP/1.1 200 OK", "live\n")
        assert await http_get(port, "/ready") == (
            "HTTP/1.1 200 OK",
            f"ready\nagent {directory / 'agent.sock'} (example.org)\n",
        )
        assert await http_get(port, "/else") == ("HTTP/1.1 404 Not Found", "wanted /live or /ready\n")


async def test_the_socket_is_gone_when_the_agent_is(directory: Path) -> None:
    path = directory / "below" / "agent.sock"
    async with (
        agent_at(path, entry("/web")) as mesh,
        WorkloadApiClient(mesh.agent.address) as client,
        watching(client) as contexts,
    ):
        await anext(contexts)
        assert repr(mesh.agent).startswith(f"<Agent unix://{path} <SvidCache example.org [1 entries, 1 SVIDs, 1")
    assert not path.exists()
