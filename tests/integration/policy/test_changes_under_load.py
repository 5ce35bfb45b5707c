"""A change of policy while many connections of HTTP and of TCP are busy: what stays allowed does not notice it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from meshtls.sidecar.settings import Protocol
from tests.integration.sidecar.governed import a_web_app, governed, with_policies
from tests.integration.sidecar.mesh import OTHER, OURS, Node, an_app, connected, echoed, side_a
from tests.support.authority import context_for
from tests.support.waiting import SECONDS, until

CONNECTIONS, CHANGES = 16, 12
_KIND = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: default}}\n"
_A, _OTHER = "example.org/ns/default/sa/service-a", "example.org/ns/default/sa/other"


def allow(name: str, *principals: str, paths: str | None = None) -> str:
    """These principals may come, and with ``paths`` only to those."""
    to = f"    to: [{{operation: {{paths: {paths}}}}}]\n" if paths else ""
    rule = f"  - from: [{{source: {{principals: [{', '.join(principals)}]}}}}]\n{to}"
    return _KIND.format(name=name) + f"spec:\n  rules:\n{rule}"


class Load:
    """Counts what is answered on each connection, until it is stopped."""

    def __init__(self) -> None:
        self.stopped = False
        self.statuses: list[list[int]] = []

    async def ask(self, node: Node, path: str) -> None:
        """One request after the other on one connection, which has to stay."""
        statuses: list[int] = []
        self.statuses.append(statuses)
        async with connected(node.outbound) as (reader, writer):
            while not self.stopped:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: b\r\n\r\n".encode())
                async with asyncio.timeout(SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
                    await reader.readexactly(length)
                statuses.append(int(head.split()[1]))

    async def all_go_on(self) -> None:
        """Each connection gets three more answers: the last two were asked for after this call."""
        before = [len(one) for one in self.statuses]
        await until(lambda: all(len(one) >= had + 3 for one, had in zip(self.statuses, before, strict=True)))


@pytest.mark.parametrize("tunnel", [False, True], ids=["mTLS", "tunnel"])
async def test_requests_that_stay_allowed_are_answered_and_others_get_403_from_then_on(tunnel: bool) -> None:
    both, one = allow("both", _A, _OTHER, paths="[/ok, /other]"), allow("one", _A, paths="[/ok]")
    load = Load()
    async with (
        a_web_app() as app,
        governed(app.address, both, protocol=Protocol.HTTP, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        side_a(b.inbound, context_for(OURS, OTHER), tunnel=tunnel) as other,
        asyncio.TaskGroup() as group,
    ):
        open_, narrow = b.sidecar.config, with_policies(b.sidecar.config, one)
        for at in range(CONNECTIONS):
            group.create_task(load.ask(a, "/ok"))
            group.create_task(load.ask(a if at % 2 else other, "/other"))
        await until(lambda: len(load.statuses) == 2 * CONNECTIONS)
        for at in range(CHANGES):
            assert b.sidecar.reload(open_ if at % 2 else narrow).ended == 0
            await load.all_go_on()
            assert {statuses[-1] for statuses in load.statuses[::2]} == {200}
            assert {statuses[-1] for statuses in load.statuses[1::2]} == {200 if at % 2 else 403}
        load.stopped = True
    assert {status for statuses in load.statuses[::2] for status in statuses} == {200}
    assert {status for statuses in load.statuses[1::2] for status in statuses} == {200, 403}


@pytest.mark.parametrize("tunnel", [False, True], ids=["mTLS", "tunnel"])
async def test_tcp_connections_that_stay_allowed_go_on_and_others_are_closed(tunnel: bool) -> None:
    async with (
        an_app() as app,
        governed(app.address, allow("both", _A, _OTHER), tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        side_a(b.inbound, context_for(OURS, OTHER), tunnel=tunnel) as other,
        contextlib.AsyncExitStack() as stack,
    ):
        allowed = [await stack.enter_async_context(connected(a.outbound)) for _ in range(CONNECTIONS)]
        echoing = True

        async def echo(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> int:
            count = 0
            while echoing:
                assert await echoed(streams, b"%064d" % count) == b"%064d" % count
                count += 1
            return count

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(echo(streams)) for streams in allowed]
            for at in range(CHANGES):
                forbidden = [await stack.enter_async_context(connected(other.outbound)) for _ in range(4)]
                for streams in forbidden:
                    assert await echoed(streams) == b"ping"
                b.sidecar.reload(with_policies(b.sidecar.config, allow(f"one{at}", _A)))
                for reader, _ in forbidden:
                    async with asyncio.timeout(SECONDS):
                        with contextlib.suppress(ConnectionError):
                            assert await reader.read() == b""
                b.sidecar.reload(with_policies(b.sidecar.config, allow(f"both{at}", _A, _OTHER)))
            echoing = False
        assert all(task.result() for task in tasks)
