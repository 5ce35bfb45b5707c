"""The values of metrics, their bounds, and their sum over several processes."""

from __future__ import annotations

import sys
from itertools import product

import pytest

from meshtls.errors import LocalIdentityError
from meshtls.observe.metrics import (
    Family,
    Label,
    Merge,
    Metrics,
    Snapshot,
    counter,
    decode,
    encode,
    gauge,
    histogram,
    info,
    merge,
)
from meshtls.observe.metrics.label_sets import LONGEST_VALUE

DIRECTION = Label("direction", ("inbound", "outbound"))
PEERS = counter("test_peers_total", "Connections.", DIRECTION, Label("peer", most=3))
PAIRS = counter("test_pairs_total", "Connections.", DIRECTION, "source", "destination", most=4)
OPEN = gauge("test_open", "Open.")
EXPIRY = gauge("test_expiry", "Expiry.", merge=Merge.MIN)
READY = gauge("test_ready", "Ready.", merge=Merge.MIN)
NEWEST = gauge("test_newest", "Newest.", merge=Merge.MAX)
TIME = histogram("test_time", "Time.", buckets=(1, 2))
BUILD = info("test_build_info", "Build.", "version")


def test_a_bound_child_counts() -> None:
    metrics = Metrics()
    child = metrics.counter(PEERS).labels("inbound", "a")
    child.inc()
    child.inc(4)
    assert metrics.counter(PEERS).labels("inbound", "a") is child
    assert metrics.snapshot().value("test_peers_total", "inbound", "a") == 5


def test_a_metric_without_labels_is_there_before_it_counts() -> None:
    metrics = Metrics()
    metrics.counter(counter("test_empty_total", "Empty."))
    assert metrics.snapshot().value("test_empty_total") == 0


def test_a_gauge_goes_up_and_down() -> None:
    metrics = Metrics()
    level = metrics.gauge(OPEN).labels()
    level.inc(3)
    level.dec()
    assert metrics.snapshot().value("test_open") == 2


def test_a_gauge_is_read_at_each_scrape() -> None:
    metrics, now = Metrics(), [1.0]
    metrics.gauge(OPEN).read_from(lambda: now[0])
    assert metrics.snapshot().value("test_open") == 1
    now[0] = 7
    assert metrics.snapshot().value("test_open") == 7


def no_identity() -> float:
    raise LocalIdentityError("no SVID yet")


@pytest.mark.parametrize("read", [lambda: None, no_identity])
def test_a_gauge_that_cannot_be_read_now_is_left_out(read: object) -> None:
    metrics = Metrics()
    metrics.gauge(OPEN).read_from(read)  # type: ignore[arg-type]
    metrics.gauge(EXPIRY).set(3)
    snapshot = metrics.snapshot()
    assert (snapshot.value("test_open"), snapshot.value("test_expiry")) == (None, 3)


def test_gauges_that_are_known_by_asking_only_are_refreshed_before_a_scrape() -> None:
    metrics, domains = Metrics(), ["a.test", "b.test"]
    sequence = metrics.gauge(gauge("test_sequence", "Sequence.", "trust_domain"))

    def refresh() -> None:
        sequence.clear()
        for at, domain in enumerate(domains):
            sequence.labels(domain).set(at)

    metrics.before_scrape(refresh)
    assert metrics.snapshot().value("test_sequence", "b.test") == 1
    domains.pop()
    assert metrics.snapshot().value("test_sequence", "b.test") is None


def test_an_info_has_its_newest_facts_only() -> None:
    metrics = Metrics()
    metrics.info(BUILD).tell("1")
    metrics.info(BUILD).tell("2")
    assert (metrics.snapshot().value("test_build_info", "1"), metrics.snapshot().value("test_build_info", "2")) == (
        None,
        1,
    )


def test_a_wrong_number_of_values_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"wanted a value for each label \(direction, peer\), got 1"):
        Metrics().counter(PEERS).labels("inbound")


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (counter("test_peers_total", "Something else."), "clashes with that of test_peers_total"),
        (gauge("test_peers", "Peers."), "clashes with that of test_peers_total"),
        (info("test_time_info", "Time."), "clashes with that of test_time"),
    ],
)
def test_two_metrics_with_one_name_are_an_error(other: Family, problem: str) -> None:
    metrics = Metrics()
    metrics.counter(PEERS)
    metrics.histogram(TIME)
    add = {"counter": metrics.counter, "gauge": metrics.gauge, "info": metrics.info}[other.kind.value]
    with pytest.raises(ValueError, match=problem):
        add(other)


def test_a_family_of_another_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="metric test_open: wanted a counter, got a gauge"):
        Metrics().counter(OPEN)


def test_a_label_has_a_bound_number_of_values() -> None:
    metrics = Metrics()
    peers = metrics.counter(PEERS)
    for number, direction in product(range(1000), DIRECTION.values):
        peers.labels(direction, f"peer-{number}").inc()
    assert dict(peers.samples().values) == {
        **{(direction, f"peer-{number}"): (1,) for number in range(3) for direction in DIRECTION.values},
        ("inbound", "other"): (997,),
        ("outbound", "other"): (997,),
    }
    assert metrics.snapshot().value("meshtls_metrics_other_total", "test_peers_total") == 2 * 997


def test_a_family_has_a_bound_number_of_label_sets() -> None:
    pairs = Metrics().counter(PAIRS)
    for source, destination in product(range(100), repeat=2):
        pairs.labels("inbound", str(source), str(destination)).inc()
    pairs.labels("outbound", "0", "0").inc()
    counted = dict(pairs.samples().values)
    assert sum(value for (value,) in counted.values()) == 10_001
    assert set(counted) == {
        *(("inbound", "0", str(destination)) for destination in range(4)),
        ("inbound", "other", "other"),
        ("outbound", "other", "other"),
    }


def test_a_value_that_a_closed_label_does_not_have_is_other() -> None:
    metrics = Metrics()
    metrics.counter(PEERS).labels("sideways", "a").inc()
    assert metrics.snapshot().value("test_peers_total", "other", "a") == 1


def test_a_long_label_value_is_cut() -> None:
    metrics = Metrics()
    metrics.counter(PEERS).labels("inbound", "\n" * 10 * LONGEST_VALUE).inc()
    (values,) = metrics.counter(PEERS).sets.children
    assert len(values[1]) == LONGEST_VALUE


def test_memory_stays_bound_whatever_the_values_are() -> None:
    peers = Metrics().counter(PEERS)
    for number in range(10_000):
        peers.labels("inbound", f"peer-{number}" * 100)
    assert len(peers.sets.children) == 4
    assert sys.getsizeof(peers.sets._seen[1]) < 1000


def of_a_process(peers: dict[str, int], opened: float, expiry: float, times: tuple[float, ...]) -> Snapshot:
    metrics = Metrics()
    for peer, count in peers.items():
        metrics.counter(PEERS).labels("inbound", peer).inc(count)
    metrics.gauge(OPEN).set(opened)
    metrics.gauge(EXPIRY).set(expiry)
    metrics.gauge(NEWEST).set(expiry)
    metrics.gauge(READY).set(True)
    for time in times:
        metrics.histogram(TIME).observe(time)
    metrics.info(BUILD).tell("1")
    return metrics.snapshot()


def test_the_snapshots_of_several_processes_add_up() -> None:
    first = of_a_process({"a": 1, "b": 2}, 5, 100, (0.5, 3))
    second = of_a_process({"b": 3, "c": 4}, 6, 90, (1.5,))
    merged = merge([first, second])
    for labels, value in {"a": 1, "b": 5, "c": 4}.items():
        assert merged.value("test_peers_total", "inbound", labels) == value
    assert [merged.value(name) for name in ("test_open", "test_expiry", "test_newest")] == [11, 90, 100]
    assert merged.value("test_build_info", "1") == 1
    (time,) = (one for one in merged.families if one.family == TIME)
    assert time.values == (((), (1, 1, 1, 5.0)),)


def test_a_process_that_ended_leaves_its_counters() -> None:
    ended, living = of_a_process({"a": 1}, 5, 100, (0.5,)), of_a_process({"a": 2}, 6, 110, (0.5,))
    merged = merge([ended.lasting(), living])
    assert [merged.value(name) for name in ("test_open", "test_expiry")] == [6, 110]
    assert merged.value("test_peers_total", "inbound", "a") == 3


def test_the_bounds_hold_for_the_sum() -> None:
    merged = merge(of_a_process({str(number): 1}, 0, 0, ()) for number in range(100))
    (peers,) = (one for one in merged.families if one.family == PEERS)
    assert dict(peers.values) == {
        **{("inbound", str(number)): (1,) for number in range(3)},
        ("inbound", "other"): (97,),
    }


def test_a_snapshot_survives_its_encoding() -> None:
    snapshot = of_a_process({"a": 1}, 5, 100, (0.5, 3))
    assert decode(encode(snapshot)) == snapshot
