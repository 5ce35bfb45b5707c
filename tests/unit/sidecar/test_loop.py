"""The loop that shares its epoll with the poller: both work as ever, and sockets may go from one to the other."""

from __future__ import annotations

import asyncio
import os
import select
import selectors
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest

from meshtls.sidecar.loop import SharedSelector, new_loop, run, selector_of
from meshtls.sidecar.poller import EpollPoller, LoopPoller
from meshtls.sidecar.reactor import running_reactor
from meshtls.sidecar.sockets import readable, receive, send_all
from tests.support.waiting import until

Pair = tuple[socket.socket, socket.socket]


def test_the_poller_is_in_the_loop_s_own_epoll() -> None:
    async def main() -> None:
        shared, watcher = selector_of(asyncio.get_running_loop()), running_reactor().poller
        assert isinstance(watcher, EpollPoller)
        assert shared is not None
        assert shared.guest is watcher
        assert watcher.epoll is shared.epoll

    run(main())


async def test_a_loop_other_than_ours_gets_an_epoll_of_its_own() -> None:
    assert selector_of(asyncio.get_running_loop()) is None
    assert isinstance(running_reactor().poller, EpollPoller)


def test_the_loop_is_asyncios_own_without_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        assert selector_of(asyncio.get_running_loop()) is None
        assert isinstance(running_reactor().poller, LoopPoller)

    monkeypatch.delattr(select, "epoll")
    run(main())


def test_streams_timers_and_signals_are_asyncio_s_as_ever() -> None:
    async def main() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read())
            writer.close()

        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            data = os.urandom(3_000_000)
            writer.write(data)
            writer.write_eof()
            assert await reader.read() == data
            writer.close()
            await writer.wait_closed()
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.set)
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGUSR1)
        await asyncio.wait_for(told.wait(), 10)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)

    run(main())


Add = Callable[[asyncio.AbstractEventLoop, Callable[[], None]], object]


@pytest.mark.parametrize(
    "add",
    [
        lambda loop, then: loop.call_soon(then),
        lambda loop, then: loop.call_soon_threadsafe(then),
        lambda loop, then: loop.call_later(0.001, then),
        lambda loop, then: loop.call_at(loop.time(), then),
        lambda loop, then: loop.create_task(_calling(then)),
        lambda loop, then: loop.run_in_executor(None, lambda: None).add_done_callback(lambda _: then()),
    ],
    ids=["call_soon", "call_soon_threadsafe", "call_later", "call_at", "create_task", "run_in_executor"],
)
def test_a_callback_that_the_poller_adds_to_the_loop_is_run_though_no_socket_is_ready_any_more(
    pair: Pair, add: Add
) -> None:
    async def main() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def on_readable() -> None:
            pair[0].recv(10)
            add(loop, done.set)

        running_reactor().poller.watch(pair[0], on_readable, None)
        pair[1].send(b"x")
        await done.wait()  # no timeout: its timer would wake the loop, too

    run(main())


async def _calling(then: Callable[[], None]) -> None:
    then()


def test_a_poller_s_callback_may_stop_the_loop(pair: Pair) -> None:
    loop = new_loop()
    asyncio.set_event_loop(loop)
    try:
        poller = EpollPoller(loop)
        poller.watch(pair[0], loop.stop, None)
        pair[1].send(b"x")
        loop.run_forever()
        assert not loop.is_running()
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_a_timer_runs_while_the_poller_s_sockets_are_always_ready(pair: Pair) -> None:
    async def main() -> None:
        turns = 0

        def on_readable() -> None:
            nonlocal turns
            turns += 1  # nothing is read: it is ready again

        running_reactor().poller.watch(pair[0], on_readable, None)
        pair[1].send(b"x")
        await asyncio.sleep(0.05)
        assert turns > 0
        running_reactor().poller.watch(pair[0], None, None)

    run(main())


def test_the_loop_takes_no_round_for_sockets_of_the_poller_that_leave_it_nothing_to_do(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = turns = 0

    async def main() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        shared, poller = selector_of(loop), running_reactor().poller
        assert shared is not None
        select_ = shared.select

        def counting(timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            nonlocal rounds
            rounds += 1
            return select_(timeout)

        def on_readable() -> None:
            nonlocal turns
            turns += 1
            if turns == 100:
                pair[0].recv(1)
                done.set()

        monkeypatch.setattr(shared, "select", counting)
        poller.watch(pair[0], on_readable, None)
        pair[1].send(b"x")
        await done.wait()

    run(main())
    assert turns == 100
    assert rounds < turns


@pytest.mark.parametrize("named", [lambda sock: sock, socket.socket.fileno], ids=["a socket", "a descriptor"])
def test_a_reader_is_found_again_by_what_it_was_added_as(pair: Pair, named: Callable[[socket.socket], Any]) -> None:
    async def main() -> None:
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        watched = named(pair[0])
        loop.add_reader(watched, lambda: None)
        assert loop.remove_reader(watched)
        assert not loop.remove_reader(watched)
        loop.add_reader(watched, lambda: None)
        loop.add_reader(watched, told.set)
        pair[1].send(b"x")
        await asyncio.wait_for(told.wait(), 10)
        assert loop.remove_reader(watched)

    run(main())


def test_bytes_pass_through_the_poller_both_ways(pair: Pair) -> None:
    async def main() -> None:
        data, got = os.urandom(2_000_000), bytearray()
        poller = running_reactor().poller
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(send_all(pair[0], data, poller))
            while len(got) < len(data):
                got.extend(await receive(pair[1], poller))
        assert got == data

    run(main())


def test_sockets_of_the_poller_and_of_the_loop_that_are_ready_at_once_are_both_served(pair: Pair) -> None:
    async def main() -> None:
        loop, poller = asyncio.get_running_loop(), running_reactor().poller
        ours, theirs = socket.socketpair()
        with ours, theirs:
            heard = []
            poller.watch(pair[0], lambda: heard.append(pair[0].recv(100)), None)
            loop.add_reader(ours, lambda: heard.append(ours.recv(100)))
            for turn in (b"1", b"2"):
                theirs.send(b"for the loop " + turn)
                pair[1].send(b"for the poller " + turn)
                await until(lambda: len(heard) >= 2)
                assert sorted(heard) == [b"for the loop " + turn, b"for the poller " + turn]
                heard.clear()
            loop.remove_reader(ours)

    run(main())


def test_a_socket_may_go_to_the_loop_and_come_back(pair: Pair) -> None:
    async def main() -> None:
        loop, poller = asyncio.get_running_loop(), running_reactor().poller
        for turn in range(3):
            pair[1].send(b"for the poller")
            assert await asyncio.wait_for(receive(pair[0], poller), 10) == b"for the poller"
            waiting = loop.create_task(loop.sock_recv(pair[0], 100))
            await asyncio.sleep(0)
            pair[1].send(b"for the loop %d" % turn)
            assert await asyncio.wait_for(waiting, 10) == b"for the loop %d" % turn
        pair[1].send(b"last")
        await asyncio.wait_for(readable(pair[0], poller), 10)

    run(main())


def test_a_descriptor_closed_without_notice_serves_asyncio(pair: Pair) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        gone, far = socket.socketpair()
        gone.setblocking(False)
        running_reactor().poller.watch(gone, lambda: None, None)
        number = gone.fileno()
        gone.close()
        far.close()
        with socket.socket(fileno=os.dup(pair[0].fileno())) as again:
            assert again.fileno() == number
            again.setblocking(False)
            waiting = loop.create_task(loop.sock_recv(again, 100))
            await asyncio.sleep(0)
            pair[1].send(b"hello")
            assert await asyncio.wait_for(waiting, 10) == b"hello"

    run(main())


def test_the_selector_keeps_the_rules_of_its_interface(pair: Pair) -> None:
    with SharedSelector() as selector:
        key = selector.register(pair[0], selectors.EVENT_READ, "data")
        assert selector.get_key(key.fd) is key
        with pytest.raises(KeyError, match="already registered"):
            selector.register(pair[0], selectors.EVENT_READ)
        assert selector.select(0) == []
        pair[1].send(b"x")
        assert selector.select(0) == [(key, selectors.EVENT_READ)]
        both = selector.modify(pair[0], selectors.EVENT_READ | selectors.EVENT_WRITE, "more")
        assert selector.select(0) == [(both, selectors.EVENT_READ | selectors.EVENT_WRITE)]
        writes = selector.modify(pair[0], selectors.EVENT_WRITE, "more")
        assert selector.select(0) == [(writes, selectors.EVENT_WRITE)]
        assert selector.unregister(pair[0]) is writes
        with pytest.raises(KeyError):
            selector.unregister(pair[0])
        assert selector.select(0) == []


def test_a_descriptor_that_nobody_registered_is_left_alone(pair: Pair) -> None:
    loop = new_loop()
    shared = selector_of(loop)
    assert shared is not None
    shared.epoll.register(pair[0], select.EPOLLIN)
    pair[1].send(b"x")
    assert shared.select(0) == []
    loop.close()
