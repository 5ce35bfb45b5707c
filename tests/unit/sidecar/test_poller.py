"""The poller under the relay: interest taken back late, numbers used again, and sockets that are not its own."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from meshtls.sidecar.poller import EpollPoller, LoopPoller, Poller, poller_of
from meshtls.sidecar.sockets import error_of, readable, receive, send_all, writable
from tests.support.waiting import SECONDS

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["epoll", "add_reader"])
def make_poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Poller]:
    """Makes the running loop's, of each kind."""
    if request.param == "add_reader":
        monkeypatch.delattr(select, "epoll")
    return lambda: poller_of(asyncio.get_running_loop())


class Calls:
    """What a poller called back with."""

    def __init__(self, watcher: Poller, sock: socket.socket) -> None:
        self.watcher, self.sock = watcher, sock
        self.seen: list[str] = []
        self.called = asyncio.Event()

    def read(self) -> None:
        self.seen.append("read")
        self.sock.recv(100)
        self.called.set()

    def write(self) -> None:
        self.seen.append("write")
        self.watcher.watch(self.sock, self.read, None)
        self.called.set()


async def test_reading_and_writing_can_each_be_watched_and_unwatched(
    pair: Pair, make_poller: Callable[[], Poller]
) -> None:
    poller = make_poller()
    calls = Calls(poller, pair[0])
    calls.watcher.watch(pair[0], calls.read, calls.write)
    await calls.called.wait()
    assert calls.seen == ["write"]
    calls.called.clear()
    pair[1].send(b"x")
    await calls.called.wait()
    assert calls.seen == ["write", "read"]
    calls.watcher.watch(pair[0], None, None)
    pair[1].send(b"y")
    await readable(pair[0], poller)  # somebody else may wait for it now
    assert calls.seen == ["write", "read"]
    assert pair[0].recv(1) == b"y"


async def test_a_socket_that_nobody_wants_to_read_is_left_to_the_loop_itself(
    pair: Pair, make_poller: Callable[[], Poller]
) -> None:
    poller = make_poller()
    calls = Calls(poller, pair[0])
    calls.watcher.watch(pair[0], calls.read, None)
    calls.watcher.watch(pair[0], None, None)
    pair[1].send(b"for the loop")
    assert await asyncio.get_running_loop().sock_recv(pair[0], 100) == b"for the loop"
    assert calls.seen == []


async def test_a_closed_socket_s_number_serves_the_next_one(pair: Pair, make_poller: Callable[[], Poller]) -> None:
    poller = make_poller()
    first, far = socket.socketpair()
    first.setblocking(False)
    poller.watch(first, lambda: None, None)
    poller.watch(first, None, None)
    number = first.fileno()
    first.close()  # without a word to the poller: where interest is taken back late, it still has this number
    with far, socket.socket(fileno=pair[0].fileno()) as alias:
        again = alias.dup()
        alias.detach()
    with again:
        if isinstance(poller, EpollPoller):
            assert again.fileno() == number
        again.setblocking(False)
        pair[1].send(b"hello")
        assert await asyncio.wait_for(receive(again, poller), 10) == b"hello"
        poller.forget(again)


async def test_a_forgotten_socket_is_not_called_back(pair: Pair, make_poller: Callable[[], Poller]) -> None:
    poller = make_poller()
    calls = Calls(poller, pair[0])
    calls.watcher.watch(pair[0], calls.read, calls.write)
    calls.watcher.forget(pair[0])
    pair[1].send(b"x")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert calls.seen == []
    calls.watcher.forget(pair[0])


async def test_a_forgotten_open_socket_causes_no_endless_wake_ups(pair: Pair) -> None:
    watcher = EpollPoller(asyncio.get_running_loop())
    watcher.watch(pair[0], lambda: None, None)
    watcher.forget(pair[0])
    pair[1].send(b"x")
    watcher.wake()
    assert watcher.epoll.poll(0) == []
    assert repr(watcher) == "<EpollPoller [0 sockets]>"
    asyncio.get_running_loop().remove_reader(watcher.epoll.fileno())


async def test_an_unwanted_read_interest_is_removed_at_the_first_event(pair: Pair) -> None:
    watcher = EpollPoller(asyncio.get_running_loop())
    calls = Calls(watcher, pair[0])
    watcher.watch(pair[0], calls.read, None)
    watcher.watch(pair[0], None, calls.write)
    pair[1].send(b"x")
    watcher.wake()
    assert calls.seen == ["write"]
    watcher.watch(pair[0], None, None)
    watcher.wake()
    assert watcher.epoll.poll(0) == []
    asyncio.get_running_loop().remove_reader(watcher.epoll.fileno())


async def test_the_loop_s_own_watchers_say_the_same_time() -> None:
    watcher = LoopPoller(asyncio.get_running_loop())
    assert watcher.now == pytest.approx(asyncio.get_running_loop().time(), abs=5)
    assert repr(watcher) == "<LoopPoller>"


async def test_waiting_to_send_ends_when_there_is_room_and_all_arrives(
    pair: Pair, make_poller: Callable[[], Poller]
) -> None:
    poller = make_poller()
    data = bytes(range(256)) * 8192
    arrived = bytearray()

    async def read_all() -> None:
        while len(arrived) < len(data):
            arrived.extend(await receive(pair[1], poller))

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(send_all(pair[0], data, poller))
        group.create_task(read_all())
    assert arrived == data
    await writable(pair[0], poller)


async def test_a_wait_that_is_cancelled_leaves_the_bytes(pair: Pair, make_poller: Callable[[], Poller]) -> None:
    poller = make_poller()
    waiting = asyncio.create_task(receive(pair[0], poller))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    pair[1].send(b"still here")
    assert await receive(pair[0], poller) == b"still here"


class Broken:
    """What ``broken`` was called for: the error of each call, None for none."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.errors: list[str | None] = []

    def __call__(self) -> None:
        error = error_of(self.sock)
        self.errors.append(None if error is None else error.strerror)


@pytest.fixture
def tcp_pair() -> Iterator[Pair]:
    """As ``pair``, but over TCP, which knows resets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    for sock in (ours, theirs):
        sock.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def until_over(sock: socket.socket) -> None:
    """Wait for the end of the connection in both directions, as the kernel knows it."""
    poll = select.poll()
    poll.register(sock, 0)
    assert poll.poll(SECONDS * 1000)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize(
    ("first", "error"),
    [
        (lambda theirs: None, "Connection reset by peer"),
        (lambda theirs: theirs.send(b"not read"), "Connection reset by peer"),
        (lambda theirs: theirs.shutdown(socket.SHUT_WR), "Broken pipe"),
    ],
    ids=["silent", "unread", "half-closed"],
)
async def test_a_reset_is_reported_once_for_a_socket_neither_read_nor_written(
    tcp_pair: Pair, first: Callable[[socket.socket], object], error: str
) -> None:
    watcher, (ours, theirs) = EpollPoller(asyncio.get_running_loop()), tcp_pair
    broken = Broken(ours)
    watcher.watch(ours, lambda: None, None)
    watcher.watch(ours, None, None, broken)
    first(theirs)
    watcher.wake()
    assert watcher.epoll.poll(0) == [], "what nobody wants to read wakes nobody"
    assert broken.errors == []
    reset(theirs)
    until_over(ours)
    watcher.wake()
    assert broken.errors == [error]
    assert watcher.epoll.poll(0) == []
    asyncio.get_running_loop().remove_reader(watcher.epoll.fileno())


async def test_the_end_of_both_sides_is_reported_once_without_an_error(tcp_pair: Pair) -> None:
    watcher = EpollPoller(asyncio.get_running_loop())
    broken = Broken(tcp_pair[0])
    watcher.watch(tcp_pair[0], None, None, broken)
    for sock in tcp_pair:
        sock.shutdown(socket.SHUT_WR)
    until_over(tcp_pair[0])
    watcher.wake()
    watcher.wake()
    assert broken.errors == [None]
    assert watcher.epoll.poll(0) == [], "no wake-up without end"
    asyncio.get_running_loop().remove_reader(watcher.epoll.fileno())


async def test_a_socket_that_is_left_alone_or_forgotten_is_told_of_no_reset(tcp_pair: Pair) -> None:
    watcher, (ours, theirs) = EpollPoller(asyncio.get_running_loop()), tcp_pair
    broken = Broken(ours)
    watcher.watch(ours, None, None, broken)
    watcher.watch(ours, None, None)
    assert repr(watcher) == "<EpollPoller [0 sockets]>"
    watcher.watch(ours, None, None, broken)
    watcher.forget(ours)
    reset(theirs)
    until_over(ours)
    watcher.wake()
    assert broken.errors == []
    assert watcher.epoll.poll(0) == []
    asyncio.get_running_loop().remove_reader(watcher.epoll.fileno())
