"""The five methods over real gRPC, and the message of each failure."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from grpclib import Status
from grpclib.client import Channel, UnaryStreamMethod
from grpclib.exceptions import GRPCError

from meshtls.bundle import BundleSet
from meshtls.ca.authority import Authority
from meshtls.errors import ConfigError, InvalidSvidError, LocalIdentityError, RequestError
from meshtls.proto import workload_pb as pb
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.svid.jwt import JwtSvid, parse_unverified
from meshtls.workload.client import WorkloadApiClient
from meshtls.workload.failures import WorkloadApiError
from tests.support.authority import context_for, make_authority, svid_for
from tests.support.clock import ManualClock
from tests.support.workload_api import WorkloadApi

Ask = Callable[[WorkloadApiClient], Awaitable[object]]
FETCHES: dict[str, Ask] = {
    "FetchX509SVID": lambda client: client.fetch_x509_context(),
    "FetchX509Bundles": lambda client: client.fetch_x509_bundles(),
    "FetchJWTSVID": lambda client: client.fetch_jwt_svids(["db"]),
    "FetchJWTBundles": lambda client: client.fetch_jwt_bundles(),
}
EVERY_FETCH = pytest.mark.parametrize("method", FETCHES)


async def test_the_five_methods_of_the_standard(api: WorkloadApi, authority: Authority) -> None:
    partner = make_authority("partner.test")
    api.push(context_for(authority, "/web", federated=[partner.bundle]))
    async with WorkloadApiClient(api.address) as client:
        context = await client.fetch_x509_context()
        assert context.svids == api.context.svids
        assert context.svid.key_der() == api.context.svid.key_der()
        assert {str(b.trust_domain) for b in context.bundles} == {"example.org", "partner.test"}
        assert await client.fetch_x509_bundles() == context.bundles
        assert await client.fetch_jwt_bundles() == BundleSet(replace(b, x509_authorities=()) for b in api.jwt_bundles)
        (token,) = await client.fetch_jwt_svids(["db", "mail"])
        assert (token.spiffe_id, token.audience) == (context.svid.spiffe_id, ("db", "mail"))
        assert await client.validate_jwt_svid(token.token, "mail") == token
    assert api.calls.total() == 5


async def test_every_identity_gets_a_token_or_the_named_one_does(api: WorkloadApi, authority: Authority) -> None:
    svids = (svid_for(authority, "/web"), svid_for(authority, "/admin"))
    api.push(X509Context(1, svids, BundleSet([authority.bundle])))
    async with WorkloadApiClient(api.address) as client:
        assert [svid.spiffe_id for svid in await client.fetch_jwt_svids(["db"])] == [one.spiffe_id for one in svids]
        (named,) = await client.fetch_jwt_svids(["db"], svids[1].spiffe_id)
        assert named.spiffe_id == svids[1].spiffe_id
        with pytest.raises(WorkloadApiError, match="PERMISSION_DENIED"):
            await client.fetch_jwt_svids(["db"], SpiffeId.parse("spiffe://example.org/other"))


async def test_a_workload_api_over_tcp(api: WorkloadApi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await api.stop()
        await api.start(listener)
        async with WorkloadApiClient(f"tcp://127.0.0.1:{listener.getsockname()[1]}") as client:
            assert (await client.fetch_x509_context()).svids == api.context.svids
        await api.stop()


async def test_the_address_from_the_environment(api: WorkloadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", api.address)
    async with WorkloadApiClient() as client:
        assert (await client.fetch_x509_context()).svids == api.context.svids
    monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET")
    with pytest.raises(ConfigError, match="set SPIFFE_ENDPOINT_SOCKET"):
        WorkloadApiClient()


async def test_a_call_without_the_security_header_is_refused_by_the_server_of_these_tests(api: WorkloadApi) -> None:
    async with Channel(path=str(api.path)) as channel:
        method = UnaryStreamMethod(channel, "/SpiffeWorkloadAPI/FetchX509SVID", pb.X509SVIDRequest, pb.X509SVIDResponse)
        with pytest.raises(GRPCError) as raised:
            await method(pb.X509SVIDRequest())
    assert raised.value.status is Status.INVALID_ARGUMENT


class TestFailures:
    @EVERY_FETCH
    @pytest.mark.parametrize(
        ("status", "temporary", "words"),
        [
            (Status.PERMISSION_DENIED, True,
             " (no identity for this process; create an entry that matches its selectors)"),
            (Status.UNAVAILABLE, True, ""),
            (Status.INTERNAL, True, ""),
            (Status.INVALID_ARGUMENT, False,
             " (the request breaks a rule of the Workload API, so it is not retried)"),
            (Status.UNIMPLEMENTED, False,
             " (the server there is not a Workload API or lacks this method, so it is not retried)"),
        ],
    )  # fmt: skip
    async def test_a_status_becomes_an_error_that_knows_whether_to_try_again(
        self, api: WorkloadApi, method: str, status: Status, temporary: bool, words: str
    ) -> None:
        api.refuse(status)
        async with WorkloadApiClient(api.address) as client:
            with pytest.raises(WorkloadApiError) as raised:
                await FETCHES[method](client)
            assert str(raised.value) == (
                f"Workload API at {api.address}, {method}: {status.name}: no identity issued{words}"
            )
            assert (raised.value.temporary, raised.value.status) == (temporary, status)
            api.push(api.context)
            assert await FETCHES[method](client) is not None

    @EVERY_FETCH
    async def test_an_address_without_a_listener(self, tmp_path: Path, method: str) -> None:
        address = f"unix://{tmp_path}/none.sock"
        async with WorkloadApiClient(address) as client:
            with pytest.raises(WorkloadApiError) as raised:
                await FETCHES[method](client)
        assert str(raised.value) == (
            f"Workload API at {address}, {method}: cannot connect (No such file or directory);"
            " check that the agent is running"
        )

    @EVERY_FETCH
    async def test_a_silent_workload_api_times_out(self, api: WorkloadApi, method: str) -> None:
        api.silent = True
        async with WorkloadApiClient(api.address, timeout=0.05) as client:
            with pytest.raises(WorkloadApiError) as raised:
                await FETCHES[method](client)
            assert str(raised.value) == f"Workload API at {api.address}, {method}: no answer in time"
            api.silent = False
        async with WorkloadApiClient(api.address) as client:
            assert await FETCHES[method](client) is not None

    @EVERY_FETCH
    async def test_a_grpc_server_without_the_workload_api(self, tmp_path: Path, method: str) -> None:
        with other_server(tmp_path / "other.sock") as address:
            async with WorkloadApiClient(address) as client:
                with pytest.raises(WorkloadApiError, match="UNIMPLEMENTED") as raised:
                    await FETCHES[method](client)
        assert not raised.value.temporary

    @EVERY_FETCH
    @pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3, b""])
    async def test_a_server_that_does_not_speak_grpc(self, tmp_path: Path, method: str, answer: bytes) -> None:
        async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(answer)
            writer.close()
            await writer.wait_closed()

        path = str(tmp_path / "http.sock")
        async with await asyncio.start_unix_server(reply, path), WorkloadApiClient(f"unix://{path}") as client:
            with pytest.raises(WorkloadApiError) as raised:
                await FETCHES[method](client)
        assert str(raised.value) == f"Workload API at unix://{path}, {method}: the connection was lost"

    async def test_a_response_without_an_svid_is_refused(self, api: WorkloadApi) -> None:
        api.context = replace(api.context, svids=())
        async with WorkloadApiClient(api.address) as client:
            with pytest.raises(LocalIdentityError, match="the Workload API sent no X509-SVID"):
                await client.fetch_x509_context()

    async def test_an_invalid_audience_is_not_sent(self, api: WorkloadApi) -> None:
        async with WorkloadApiClient(api.address) as client:
            for audience in ([], [""], "db"):
                with pytest.raises(RequestError) as raised:
                    await client.fetch_jwt_svids(audience)
                assert str(raised.value) == "JWT-SVID: audience: wanted one or more, none of them empty"
        assert not api.calls

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda svid: (svid.token, "mail"), "it is meant for 'db', not for 'mail'"),
            (lambda svid: (tampered(svid.token), "db"), "its signature was not made by key 'jwt-1'"),
            (lambda svid: ("junk", "db"), "wanted a JWS in compact form"),
        ],
    )
    async def test_a_token_refused_by_the_workload_api(
        self, api: WorkloadApi, change: Callable[[JwtSvid], tuple[str, str]], reason: str
    ) -> None:
        svid = api.mint(api.context.svid.spiffe_id, "db")
        async with WorkloadApiClient(api.address) as client:
            assert await client.validate_jwt_svid(svid.token, "db") == parse_unverified(svid.token)
            with pytest.raises(InvalidSvidError) as raised:
                await client.validate_jwt_svid(*change(svid))
        assert str(raised.value).startswith(f"JWT-SVID refused by the Workload API at {api.address}: ")
        assert reason in str(raised.value)

    async def test_an_impossible_validation_is_not_blamed_on_the_token(self, api: WorkloadApi) -> None:
        token = api.mint(api.context.svid.spiffe_id, "db").token
        api.refuse(Status.UNAVAILABLE)
        async with WorkloadApiClient(api.address) as client:
            with pytest.raises(WorkloadApiError, match="UNAVAILABLE"):
                await client.validate_jwt_svid(token, "db")

    async def test_a_client_that_is_not_open_says_so(self, api: WorkloadApi) -> None:
        client = WorkloadApiClient(api.address)
        with pytest.raises(LocalIdentityError) as raised:
            await client.fetch_x509_context()
        assert str(raised.value) == f"the client of {api.address} is not open: use it inside 'async with'"
        async with client:
            assert (await client.fetch_x509_context()).svids == api.context.svids
        with pytest.raises(LocalIdentityError, match="is not open"):
            await client.fetch_x509_context()


class TestWatching:
    async def test_every_change_comes_with_the_next_generation(self, api: WorkloadApi, authority: Authority) -> None:
        async with WorkloadApiClient(api.address) as client, aclosing(client.watch_x509_contexts()) as contexts:
            assert (await anext(contexts)).generation == 1
            api.push(context_for(authority, "/web"))
            second = await anext(contexts)
            assert (second.generation, second.svids) == (2, api.context.svids)

    async def test_a_bundle_stream_sends_changes(self, api: WorkloadApi, authority: Authority) -> None:
        async with (
            WorkloadApiClient(api.address) as client,
            aclosing(client.watch_x509_bundles()) as x509,
            aclosing(client.watch_jwt_bundles()) as jwt,
        ):
            assert (len(await anext(x509)), len(await anext(jwt))) == (1, 1)
            api.push(context_for(authority, "/web", federated=[make_authority("partner.test").bundle]))
            assert (len(await anext(x509)), len(await anext(jwt))) == (2, 2)

    @pytest.mark.parametrize("status", [Status.PERMISSION_DENIED, Status.UNAVAILABLE])
    async def test_a_refusal_is_tried_again_with_a_backoff_that_doubles_and_starts_anew_after_success(
        self, api: WorkloadApi, clock: ManualClock, status: Status
    ) -> None:
        tried_at: list[float] = []
        client = WorkloadApiClient(api.address, clock=clock, jitter=lambda: 0)
        async with client, aclosing(client.watch_x509_contexts(noting(tried_at, clock))) as contexts:
            await anext(contexts)
            for _ in range(2):
                tried_at.clear()
                api.refuse(status)
                waiting = asyncio.ensure_future(anext(contexts))
                await pass_seconds(clock, 7)
                assert [after - before for before, after in pairwise(tried_at)] == [1, 2, 4]
                api.push(api.context)
                clock.advance(8)
                assert (await waiting).svids == api.context.svids

    async def test_an_urgent_watch_is_retried_every_second(self, api: WorkloadApi, clock: ManualClock) -> None:
        tried_at: list[float] = []
        client = WorkloadApiClient(api.address, clock=clock, jitter=lambda: 0)
        urgent = False
        watched = partial(client.watch_x509_contexts, noting(tried_at, clock), lambda: urgent)
        async with client, aclosing(watched()) as contexts:
            await anext(contexts)
            api.refuse(Status.UNAVAILABLE)
            waiting = asyncio.ensure_future(anext(contexts))
            await pass_seconds(clock, 8)  # tried at 0, 1, 3 and 7: the next would be at 15
            urgent = True
            await pass_seconds(clock, 3)
            assert tried_at == [0, 1, 3, 7, 9, 10, 11]
            waiting.cancel()
            await asyncio.wait([waiting])

    async def test_a_recreated_socket_is_tried_within_a_second(self, api: WorkloadApi, clock: ManualClock) -> None:
        tried_at: list[float] = []
        client = WorkloadApiClient(api.address, clock=clock, jitter=lambda: 0)
        async with client, aclosing(client.watch_x509_contexts(noting(tried_at, clock))) as contexts:
            await anext(contexts)
            waiting = asyncio.ensure_future(anext(contexts))
            await api.stop()
            api.path.unlink(missing_ok=True)
            await pass_seconds(clock, 17)
            assert tried_at == [0, 1, 3, 7, 15]  # the next would be at 31
            await api.start()
            clock.advance(1)
            assert (await asyncio.wait_for(waiting, 10)).svids == api.context.svids
            assert clock.monotonic() == 18

    @pytest.mark.parametrize("status", [Status.UNIMPLEMENTED, Status.INVALID_ARGUMENT])
    async def test_a_permanent_failure_ends_the_watch(self, api: WorkloadApi, status: Status) -> None:
        async with WorkloadApiClient(api.address) as client, aclosing(client.watch_x509_contexts()) as contexts:
            await anext(contexts)
            api.refuse(status)
            with pytest.raises(WorkloadApiError, match=status.name):
                await anext(contexts)

    async def test_a_restarted_workload_api_is_found_again(
        self, api: WorkloadApi, authority: Authority, clock: ManualClock
    ) -> None:
        client = WorkloadApiClient(api.address, clock=clock, jitter=lambda: 0)
        async with client, aclosing(client.watch_x509_contexts()) as contexts:
            await anext(contexts)
            waiting = asyncio.ensure_future(anext(contexts))
            await api.stop()
            await clock.until_sleepers()
            api.context = context_for(authority, "/web")
            await api.start()
            clock.advance(1)
            assert (await waiting).svids == api.context.svids


def noting(tried_at: list[float], clock: ManualClock) -> Callable[[LocalIdentityError], None]:
    return lambda error: tried_at.append(clock.monotonic())


async def pass_seconds(clock: ManualClock, seconds: int) -> None:
    """Advance the clock second by second, each time once the watch sleeps."""
    for _ in range(seconds):
        await clock.until_sleepers()
        clock.advance(1)
    await clock.until_sleepers()


def tampered(token: str) -> str:
    signed, _, signature = token.rpartition(".")
    return f"{signed}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


@contextmanager
def other_server(path: Path) -> Iterator[str]:
    """A gRPC server without the Workload API."""
    grpc = pytest.importorskip("grpc", reason="grpcio, which the spiffe package needs, is the other server")
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        yield f"unix://{path}"
    finally:
        server.stop(grace=None).wait()
