"""The metrics of several worker processes, forked for real, add up; one that died keeps its counters."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from meshtls.observe.metrics import Metrics, Snapshot, counter, gauge
from meshtls.sidecar.metrics.worker_snapshots import WorkerSnapshots

COUNT = counter("test_count_total", "Counted.")
OPEN = gauge("test_open", "Open.")


@pytest.fixture
def places() -> Iterator[WorkerSnapshots]:
    made = WorkerSnapshots(2)
    yield made
    made.close()


def counted(count: int, opened: int) -> Snapshot:
    metrics = Metrics()
    metrics.counter(COUNT).inc(count)
    metrics.gauge(OPEN).set(opened)
    return metrics.snapshot()


def in_a_process(work: Callable[[], None]) -> int:
    """Run it in a forked process, which then waits until it is killed. Returns when the work is done."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            work()
            os.write(writing, b"done")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    assert os.read(reading, 4) == b"done"
    os.close(reading)
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def values(snapshot: Snapshot) -> tuple[float | None, float | None]:
    return snapshot.value("test_count_total"), snapshot.value("test_open")


def work_as_second(places: WorkerSnapshots, count: int, opened: int) -> Callable[[], None]:
    def work() -> None:
        places.begin(2)
        places.publish(counted(count, opened))

    return work


def test_a_scrape_of_one_worker_has_the_sum_of_all(places: WorkerSnapshots) -> None:
    places.begin(1)
    second = in_a_process(work_as_second(places, 3, 30))
    try:
        assert values(places.combined(counted(1, 10))) == (4, 40)
    finally:
        kill(second)


def test_a_worker_that_was_killed_keeps_its_counters_and_loses_its_gauges(places: WorkerSnapshots) -> None:
    places.begin(1)
    kill(in_a_process(work_as_second(places, 3, 30)))
    assert values(places.combined(counted(1, 10))) == (4, 10)


def test_a_worker_that_takes_the_place_of_another_goes_on_from_its_counters(places: WorkerSnapshots) -> None:
    places.begin(1)
    for _ in range(3):
        kill(in_a_process(work_as_second(places, 3, 30)))
    second = in_a_process(work_as_second(places, 2, 20))
    try:
        assert values(places.combined(counted(1, 10))) == (1 + 3 * 3 + 2, 30)
    finally:
        kill(second)


def test_a_worker_adds_its_own_predecessor_once(places: WorkerSnapshots) -> None:
    kill(in_a_process(work_as_second(places, 3, 30)))
    places.begin(2)
    assert values(places.combined(counted(1, 10))) == (4, 10)
    assert values(places.combined(counted(2, 20))) == (5, 20)


def test_a_snapshot_that_was_not_written_to_the_end_is_not_read(places: WorkerSnapshots) -> None:
    places.begin(1)
    second = in_a_process(work_as_second(places, 3, 30))
    try:
        files = places._places[1]
        (newest,) = [file for file in files if os.pread(file, 8, 0) == max(os.pread(one, 8, 0) for one in files)]
        os.ftruncate(newest, os.fstat(newest).st_size - 1)
        count, opened = values(places.combined(counted(1, 10)))
        assert (count, opened) == (1, 10)  # of the second, what it wrote before, when it had counted nothing
    finally:
        kill(second)
