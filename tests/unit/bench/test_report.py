from bench.report import Cell, Summary, summarize


def test_a_summary_has_medians_and_the_spread() -> None:
    cells = [
        Cell("nginx", "bulk-1", 0, 3.0, p50_ms=1.0, p99_ms=9.0),
        Cell("nginx", "bulk-1", 1, 1.0, p50_ms=3.0, p99_ms=7.0),
        Cell("nginx", "bulk-1", 2, 2.0, p50_ms=2.0, p99_ms=8.0),
    ]
    assert summarize(cells) == [Summary("nginx", "bulk-1", 3, median=2.0, low=1.0, high=3.0, p50_ms=2.0, p99_ms=8.0)]


def test_the_ratio_is_taken_within_a_round_so_that_a_slow_round_does_not_count_twice() -> None:
    cells = [
        Cell("nginx", "bulk-1", 0, 2.0),
        Cell("meshtls", "bulk-1", 0, 1.0),
        Cell("nginx", "bulk-1", 1, 20.0),
        Cell("meshtls", "bulk-1", 1, 10.0),
    ]
    assert [one.ratio for one in summarize(cells)] == [0.5, 1.0]


def test_a_failed_measurement_is_left_out_of_medians_and_ratios() -> None:
    cells = [
        Cell("nginx", "bulk-1", 0, 2.0),
        Cell("meshtls", "bulk-1", 0, error="it broke"),
        Cell("nginx", "bulk-1", 1, 4.0),
        Cell("meshtls", "bulk-1", 1, 1.0),
    ]
    assert [(one.peer, one.rounds, one.ratio) for one in summarize(cells)] == [("nginx", 2, 0.25), ("meshtls", 1, 1.0)]


def test_a_peer_that_only_failed_has_no_summary() -> None:
    assert summarize([Cell("nginx", "bulk-1", 0, error="it broke")]) == []


def test_a_summary_ignores_other_workloads() -> None:
    cells = [Cell("nginx", "bulk-1", 0, 2.0), Cell("meshtls", "bulk-8", 0, 1.0)]
    assert [(one.peer, one.workload, one.ratio) for one in summarize(cells)] == [
        ("nginx", "bulk-1", None),
        ("meshtls", "bulk-8", 1.0),
    ]
