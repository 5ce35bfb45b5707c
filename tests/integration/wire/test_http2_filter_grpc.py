"""A real grpc.aio client and server through the filter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from meshtls.wire.http import Forward, HttpRequest, Refuse, Ruling
from tests.integration.wire.filtering import Proxy, proxy

SERVICE = "test.Echo"
LARGE = 3 << 20
EOF: object = vars(grpc.aio)["EOF"]
#: Seconds that a call may take on a slow machine.
PATIENCE = 60
if TYPE_CHECKING:
    _Handler = grpc.GenericRpcHandler[bytes, bytes]
else:
    _Handler = grpc.GenericRpcHandler


class Service(_Handler):
    """Methods over plain bytes. ``cancelled`` has the calls whose cancellation reached the server."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.began = asyncio.Event()
        self.calls: list[str] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        name = handler_call_details.method.rpartition("/")[2]
        self.calls.append(name)
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self._unary),
            "Many": grpc.unary_stream_rpc_method_handler(self._many),
            "Sum": grpc.stream_unary_rpc_method_handler(self._sum),
            "Chat": grpc.stream_stream_rpc_method_handler(self._chat),
            "Fail": grpc.unary_unary_rpc_method_handler(self._fail),
            "Hang": grpc.unary_unary_rpc_method_handler(self._hang),
        }.get(name)

    async def _unary(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        await context.send_initial_metadata((("initial", "yes"),))
        context.set_trailing_metadata((("trailing-bin", b"\x00\xff"),))
        return request

    async def _many(self, request: bytes, _context: object) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    async def _sum(self, requests: AsyncIterator[bytes], _context: object) -> bytes:
        return b"%d" % sum([len(one) async for one in requests])

    async def _chat(self, requests: AsyncIterator[bytes], _context: object) -> AsyncIterator[bytes]:
        async for one in requests:
            yield one.upper()

    async def _fail(self, _request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: ü %")

    async def _hang(self, _request: bytes, _context: object) -> bytes:
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return b""


def method(channel: Any, kind: str, name: str) -> Any:
    """A method of messages that are plain bytes, which the stubs of grpc do not foresee."""
    return getattr(channel, kind)(f"/{SERVICE}/{name}")


def denying(request: HttpRequest) -> Ruling:
    """Denies what has the header ``deny``, with that status."""
    status = dict(request.headers).get("deny")
    return Refuse(int(status), "denied: 100 % sure, ü\n") if status else Forward(request)


@asynccontextmanager
async def meshed(*, late: bool = False) -> AsyncIterator[tuple[grpc.aio.Channel, Service, Proxy]]:
    service = Service()
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
    async with (
        proxy(port, denying, late=late) as between,
        grpc.aio.insecure_channel(f"127.0.0.1:{between.port}", options) as channel,
    ):
        try:
            yield channel, service, between
        finally:
            await server.stop(None)


@pytest.mark.parametrize("late", [False, True])
async def test_a_unary_call_brings_its_metadata_and_trailers(late: bool) -> None:
    async with meshed(late=late) as (channel, _, between):
        for number in range(20):
            call = method(channel, "unary_unary", "Unary")(b"x%d" % number, metadata=(("key", "v"),), timeout=PATIENCE)
            assert await call == b"x%d" % number
            assert ("initial", "yes") in list(await call.initial_metadata() or ())
            assert ("trailing-bin", b"\x00\xff") in list(await call.trailing_metadata() or ())
        assert {(one.method, one.path) for one in between.requests} == {("POST", f"/{SERVICE}/Unary")}
        assert ("key", "v") in between.requests[0].headers
        assert len(between.links) == 1


async def test_messages_larger_than_all_windows_pass_both_ways() -> None:
    async with meshed() as (channel, _, _between):
        message = bytes(range(256)) * (LARGE >> 8)
        assert await method(channel, "unary_unary", "Unary")(message, timeout=PATIENCE) == message


async def test_streams_in_each_direction_and_in_both() -> None:
    async with meshed() as (channel, _, _between):
        many = method(channel, "unary_stream", "Many")(b"500", timeout=PATIENCE)
        assert [int(one) async for one in many] == list(range(500))

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(200):
                yield b"x" * 10_000

        assert await method(channel, "stream_unary", "Sum")(pieces(), timeout=PATIENCE) == b"2000000"
        chat = method(channel, "stream_stream", "Chat")(timeout=PATIENCE)
        for word in (b"one", b"two", b"three"):
            await chat.write(word)
            assert await chat.read() == word.upper()
        await chat.done_writing()
        assert await chat.read() is EOF
        assert await chat.code() is grpc.StatusCode.OK


async def test_many_calls_at_once_share_the_connection() -> None:
    async with meshed() as (channel, _, between):
        unary = method(channel, "unary_unary", "Unary")
        sizes = [1, 100, 70_000, 300_000] * 40
        answers = await asyncio.gather(*[unary(b"x" * size, timeout=PATIENCE) for size in sizes])
        assert [len(one) for one in answers] == sizes
        assert len(between.links) == 1


async def test_the_apps_own_error_arrives_as_it_is() -> None:
    async with meshed() as (channel, _, _between):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await method(channel, "unary_unary", "Fail")(b"", timeout=PATIENCE)
        assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing: ü %")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("403", grpc.StatusCode.PERMISSION_DENIED),
        ("401", grpc.StatusCode.UNAUTHENTICATED),
        ("400", grpc.StatusCode.INVALID_ARGUMENT),
        ("503", grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_a_denied_call_gets_a_status_and_the_channel_stays_usable(
    status: str, code: grpc.StatusCode, late: bool
) -> None:
    async with meshed(late=late) as (channel, service, between):
        unary = method(channel, "unary_unary", "Unary")
        for body in (b"", b"x" * 200_000):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await unary(body, metadata=(("deny", status),), timeout=PATIENCE)
            assert (raised.value.code(), raised.value.details()) == (code, "denied: 100 % sure, ü")
        assert service.calls == []
        assert await unary(b"allowed", timeout=PATIENCE) == b"allowed"
        assert service.calls == ["Unary"]
        assert len(between.links) == 1


async def test_a_cancelled_call_is_cancelled_at_the_app() -> None:
    async with meshed() as (channel, service, _between):
        call = method(channel, "unary_unary", "Hang")(b"", timeout=PATIENCE)
        await service.began.wait()
        call.cancel()
        await asyncio.wait_for(service.cancelled.wait(), PATIENCE)
        assert await method(channel, "unary_unary", "Unary")(b"after", timeout=PATIENCE) == b"after"


async def test_a_deadline_ends_the_call_at_both_ends() -> None:
    async with meshed() as (channel, service, _between):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await method(channel, "unary_unary", "Hang")(b"", timeout=1)
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if service.began.is_set():
            await asyncio.wait_for(service.cancelled.wait(), PATIENCE)


async def test_an_app_that_is_not_there_makes_the_call_unavailable() -> None:
    async with proxy(1) as between, grpc.aio.insecure_channel(f"127.0.0.1:{between.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await method(channel, "unary_unary", "Unary")(b"", timeout=PATIENCE)
        assert (raised.value.code(), raised.value.details()) == (
            grpc.StatusCode.UNAVAILABLE,
            "the app can't be reached",
        )
