"""The benchmark of decisions: that what it measures is what it says, and its table."""

from __future__ import annotations

from bench.decisions.cli import plain
from bench.decisions.figures import COUNTS, Cell, DecisionsReport, measure_all
from bench.decisions.live import LiveFigures, measure_live
from bench.report import Machine


def test_each_kind_of_decision_is_measured_with_each_number_of_policies() -> None:
    cells = measure_all(rounds=1, decisions=10, counts=(1, 40))
    assert {(one.name, one.policies) for one in cells} == {
        (f"{kind}{known}", count)
        for kind in ("hit", "miss", "deny", "template", "excluded paths", "domain's end", "no keys")
        for known in ("", ", connection known")
        for count in (1, 40)
    }
    assert {one.times_one for one in cells if one.policies == 1} == {1.0}


def test_the_table_has_a_row_for_each_kind() -> None:
    cells = [Cell("hit", count, 2.5, times) for count, times in zip(COUNTS, (1.0, 1.1, 1.2), strict=True)]
    live = LiveFigures(7, 500.4, 800.6)
    report = DecisionsReport("now", Machine("cpu", 2, "linux", "3.11", "3.0", 0.5), 1, 10, cells, live)
    assert plain(report).splitlines() == [
        "| CPU-µs a decision | 1 policy | 100 policies | 10,000 policies | 10,000 to 1 |",
        "|---|---:|---:|---:|---:|",
        "| hit | 2.50 | 2.50 | 2.50 | 1.20 |",
        "",
        "from a replaced policy file to the first request that it decides on, over 7 changes:"
        " 500 ms (p50), 801 ms (p99)",
        "",
        "load average before the run: 0.5 on 2 CPUs",
    ]


def test_each_change_of_a_policy_file_is_measured_until_it_decides() -> None:
    found = measure_live(2)
    assert found.changes == 2
    assert 0 < found.p50_ms <= found.p99_ms
