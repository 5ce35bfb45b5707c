"""Summaries of rounds as ranges."""

from __future__ import annotations

from bench.strangers.figures import Cell, Range, summarize


def cell(stranger: str, number: int, cpu_ms: float | None, error: str | None = None) -> Cell:
    return Cell("nginx", stranger, number, strangers=10, cut=9, cpu_ms=cpu_ms, wait_s=0.5, friends=4, error=error)


def test_a_summary_has_medians_and_ranges_and_counts_all_rounds() -> None:
    [found] = summarize([cell("plaintext", number, cpu) for number, cpu in enumerate((3.0, 1.0, 2.0))])
    assert (found.cpu_ms, found.wait_s) == (Range(2.0, 1.0, 3.0), Range(0.5, 0.5, 0.5))
    assert (found.rounds, found.strangers, found.cut, found.friends) == (3, 30, 27, 12)
    assert (found.of_foreign, found.calm_wait_s) == (None, None)


def test_a_stranger_is_compared_with_a_foreign_certificate_of_its_round() -> None:
    cells = [
        cell("foreign-certificate", 0, 1.0),
        cell("foreign-certificate", 1, 10.0),
        cell("worst-chain", 0, 3.0),
        cell("worst-chain", 1, 20.0),
    ]
    assert summarize(cells)[1].of_foreign == Range(2.5, 2.0, 3.0)


def test_a_failed_round_is_left_out_of_the_figures() -> None:
    cells = [cell("plaintext", 0, 1.0), cell("plaintext", 1, None, "it broke")]
    assert [(one.rounds, one.cpu_ms.high) for one in summarize(cells)] == [(1, 1.0)]
    assert summarize(cells[1:]) == []
