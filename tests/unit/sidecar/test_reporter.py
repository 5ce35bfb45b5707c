"""What the consumer of results raises stays with it, and is logged once when it begins and once when it is over."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from meshtls.observe.events import ConnectionResult, Direction, Outcome
from meshtls.observe.live import Ended, Event, Opened, PhaseEnded
from meshtls.sidecar.connection import Connection
from meshtls.sidecar.reactor import running_reactor
from meshtls.sidecar.reporter import Reporter
from meshtls.spiffeid import SpiffeId
from tests.support.clock import ManualClock

FAILED = "sidecar b: on_result failed on a connection's result; connections go on unreported"


@pytest.fixture
def connection() -> Iterator[Connection]:
    with socket.socket() as opener:
        local = SpiffeId.parse("spiffe://example.org/b")
        yield Connection("b", local, Direction.INBOUND, opener, "127.0.0.1:1", ManualClock())


class Consumer:
    """Raises ``error``, if there is one."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.taken = 0

    def __call__(self, result: ConnectionResult) -> None:
        if self.error is not None:
            raise self.error
        self.taken += 1


@pytest.mark.parametrize(
    "error",
    [OSError("no space left"), ValueError("I/O operation on closed file"), KeyError("x"), asyncio.CancelledError()],
)
async def test_a_failure_is_contained_and_logged_once_with_the_number_of_lost_results(
    error: BaseException, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = Consumer(error)
    reporter = Reporter(consumer, running_reactor().poller)
    for _ in range(3):
        reporter.report(connection, None)
    assert caplog.messages == [FAILED]
    assert repr(reporter) == "<Reporter [3 lost, 0 observers]>"
    consumer.error = None
    reporter.report(connection, None)
    reporter.report(connection, None)
    assert caplog.messages == [FAILED, "sidecar b: on_result works again; 3 results were lost"]
    assert consumer.taken == 2
    consumer.error = error
    reporter.report(connection, None)
    reporter.close("b")
    assert caplog.messages[2:] == [
        FAILED,
        "sidecar b: on_result did not work to the end; 1 results were lost",
    ]


async def test_a_consumer_that_works_leaves_no_log_line(
    connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = Reporter(consumer := Consumer(), running_reactor().poller)
    reporter.report(connection, None)
    reporter.close("b")
    assert (consumer.taken, caplog.messages) == (1, [])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
async def test_an_error_that_ends_the_process_is_not_contained(error: BaseException, connection: Connection) -> None:
    with pytest.raises(type(error)):
        Reporter(Consumer(error), running_reactor().poller).report(connection, None)


async def test_an_observer_gets_each_event_until_it_stops_and_on_result_what_it_always_got(
    connection: Connection,
) -> None:
    reporter, seen = Reporter(consumer := Consumer(), running_reactor().poller), list[Event]()
    assert not reporter.observed
    stop = reporter.observe(seen.append)
    assert reporter.observed
    reporter.opened(connection)
    with connection.phase("connect"):
        pass
    reporter.report(connection, None)
    opened, phase, ended = seen
    assert isinstance(opened, Opened)
    assert (opened.number, opened.direction, opened.local_id) == (
        connection.number,
        connection.direction,
        connection.local_id,
    )
    assert (opened.live().number, opened.live().remote) == (connection.number, "127.0.0.1:1")
    assert phase == PhaseEnded(connection.number, "connect", 0.0)
    assert isinstance(ended, Ended)
    assert (ended.number, ended.result.outcome) == (connection.number, Outcome.OK)
    assert consumer.taken == 1
    stop()
    with connection.phase("handshake"):
        reporter.report(connection, None)
    assert (len(seen), consumer.taken) == (3, 2)


async def test_an_observer_of_ends_makes_no_other_event_necessary(connection: Connection) -> None:
    reporter, seen = Reporter(Consumer(), running_reactor().poller), list[Event]()
    reporter.observe_ends(seen.append)
    assert (reporter.observed, reporter.wants_requests) == (False, True)
    reporter.opened(connection)
    with connection.phase("connect"):
        pass
    assert not connection.reported
    reporter.report(connection, None)
    (ended,) = seen
    assert isinstance(ended, Ended)
    assert (ended.number, ended.timed) == (connection.number, [("connect", 0.0)])
    assert connection.reported


async def test_the_end_of_a_tunnel_itself_is_an_event_and_no_result(connection: Connection) -> None:
    reporter, seen = Reporter(consumer := Consumer(), running_reactor().poller), list[Event]()
    reporter.observe(seen.append)
    connection.is_tunnel = True
    reporter.report(connection, None)
    assert [type(event) for event in seen] == [Ended]
    assert consumer.taken == 0


@pytest.mark.parametrize("error", [ZeroDivisionError("a defect"), asyncio.CancelledError()])
async def test_an_observers_error_is_contained_and_the_others_get_the_event(
    error: BaseException, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(event: Event) -> None:
        raise error

    reporter, seen = Reporter(consumer := Consumer(), running_reactor().poller), list[Event]()
    reporter.observe(fails)
    reporter.observe(seen.append)
    for _ in range(2):
        reporter.opened(connection)
    reporter.report(connection, None)
    reporter.close("b")
    assert (len(seen), consumer.taken) == (3, 1)
    assert caplog.messages == [
        "sidecar b: an observer failed on a connection's event; connections go on unreported",
        "sidecar b: an observer did not work to the end; 3 events were lost",
    ]
