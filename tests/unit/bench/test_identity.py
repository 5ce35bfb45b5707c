"""The identity benchmark: every part completes on a tiny scale; durations are not asserted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.identity.beside import PART
from bench.identity.cli import PARTS, measure
from bench.identity.figures import (
    Figure,
    IdentityReport,
    MissingError,
    Progress,
    Scale,
    UnmeasuredError,
    latencies,
    quantile,
)
from bench.identity.plot import draw, panels
from bench.identity.table import plain
from bench.identity.waiting import within
from bench.plot import Bar, Panel
from bench.report import Machine
from tests.support.require import require

TINY = Scale(
    mint_rounds=1,
    mint_batch=3,
    mint_seconds=0.2,
    arrivals=2,
    workloads=3,
    entries=(200,),
    listeners=2,
    changes=2,
    log_leaves=2000,
    sidecars=2,
    live_connections=4,
    revocations=2,
    signature_seconds=0.02,
    beside_arrivals=2,
    beside_gap=0.1,
    beside_svids=3,
    beside_rounds=2,
    rest_seconds=1.0,
)
NEEDS = {"signatures": "softhsm"}
PEERS = ["meshtls", "spire", "spire, 0.5 s"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("part", [name for name in PARTS if name != PART])
async def test_each_part_gives_figures_and_says_what_it_does(part: str) -> None:
    said: list[str] = []
    report = await measure(TINY, said.append, {part: PARTS[part]})
    assert report.failed == {}
    assert said[0] == f"== {part}"
    if report.missing:
        require(NEEDS[part], present=False, why=report.missing[part])
    assert len(said) > 1
    names = [(one.part, one.name, one.peer) for one in report.figures]
    assert names
    assert len(set(names)) == len(names)
    assert [one for one in report.figures if not one.value > 0] == []


@pytest.mark.timeout(300)
async def test_each_figure_beside_spire_is_measured_of_each_peer() -> None:
    report = await measure(TINY, lambda _: None, {PART: PARTS[PART]})
    if report.missing:
        require("spire", present=False, why=report.missing[PART])
    assert report.failed == {}
    assert list(report.versions) == ["meshtls", "spire"]
    assert [panel.title for panel in panels(report)] == [
        "entry to workload, p50",
        "entry to workload, p99",
        "the call itself, p50",
        "3 SVIDs for one workload",
        "3 SVIDs for one workload, server's CPU",
        "3 SVIDs for one workload, agent's CPU",
        "server at rest, CPU",
        "server at rest, memory",
        "agent at rest, CPU",
        "agent at rest, memory",
    ]
    for panel in panels(report):
        assert [bar.name for bar in panel.bars if bar.value is not None] == PEERS
    # A server that only waits may spend nothing.
    assert [one for one in report.figures if not (one.value > 0 or one.name.endswith("at rest, CPU"))] == []


async def test_without_spire_its_part_is_left_out_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MESHTLS_SPIRE_BIN", str(tmp_path))
    report = await measure(TINY, lambda _: None, {PART: PARTS[PART]})
    assert (report.figures, report.failed, list(report.versions)) == ([], {}, ["meshtls"])
    assert report.missing == {PART: "no spire-server here; set MESHTLS_SPIRE_BIN to its directory, or put it on PATH"}
    assert plain(report).splitlines()[0] == f"not measured: {PART}: {report.missing[PART]}"
    with pytest.raises(MissingError, match=r"^the report compares nothing with SPIRE$"):
        draw(report, tmp_path / "identity.svg")


async def test_a_spire_that_does_not_start_is_named_with_its_last_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("spire-server", "spire-agent"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\n[ $1 = run ] && echo 'no such plugin' >&2\nexit 3\n")
        program.chmod(0o755)
    monkeypatch.setenv("MESHTLS_SPIRE_BIN", str(tmp_path))
    report = await measure(TINY, lambda _: None, {PART: PARTS[PART]})
    assert report.failed == {PART: "spire-server ended with status 3: no such plugin"}


def compared(peers: dict[str, float]) -> IdentityReport:
    figures = [Figure(PART, "entry to workload, p50", value, "ms", peer=peer) for peer, value in peers.items()]
    figures.append(Figure(PART, "server at rest, CPU", 0.5, "ms/s", peer="meshtls"))
    machine = Machine("a CPU", 2, "6.1", "3.11", "OpenSSL 3.0", 0.25)
    return IdentityReport("now", machine, TINY, figures, {}, {}, {"meshtls": "meshtls/1", "spire": "spire/1"})


def test_a_comparison_is_a_table_with_a_column_for_each_peer() -> None:
    assert plain(compared({"meshtls": 12.5, "spire": 8400.0})).splitlines() == [
        "",
        "| | meshtls | spire |",
        "|---|---:|---:|",
        "| entry to workload, p50 | 12.5 ms | 8,400 ms |",
        "| server at rest, CPU | 0.5 ms/s | - |",
        "",
        "load average before the run: 0.2 on 2 CPUs",
    ]


def test_a_comparison_is_drawn_with_a_panel_for_each_figure() -> None:
    assert panels(compared({"meshtls": 12.5, "spire": 8400.0})) == [
        Panel(
            "entry to workload, p50",
            "ms",
            [Bar("meshtls", 12.5, "12.5", True), Bar("spire", 8400.0, "8,400", False)],
        ),
        Panel("server at rest, CPU", "ms/s", [Bar("meshtls", 0.5, "0.5", True), Bar("spire", None, "n/a", False)]),
    ]


async def test_an_answer_that_does_not_come_in_time_is_named() -> None:
    with pytest.raises(UnmeasuredError, match=r"^wanted an answer within 0\.01 s$"):
        async with within(0.01, "an answer"):
            await asyncio.Event().wait()


async def test_a_timeout_of_the_body_itself_is_not_taken_for_the_bound() -> None:
    with pytest.raises(TimeoutError, match=r"^the peer was silent$"):
        async with within(60, "an answer"):
            raise TimeoutError("the peer was silent")


async def test_a_part_that_fails_is_named_and_the_others_go_on() -> None:
    async def fails(directory: Path, scale: Scale, progress: Progress) -> list[Figure]:
        raise UnmeasuredError("it broke")

    async def works(directory: Path, scale: Scale, progress: Progress) -> list[Figure]:
        return [Figure("works", "answer", 42.0, "ms", "so it is")]

    report = await measure(TINY, lambda _: None, {"fails": fails, "works": works})
    assert report.failed == {"fails": "it broke"}
    first, second, _ = plain(report).splitlines()
    assert first.split() == ["works", "answer", "42", "ms", "so", "it", "is"]
    assert second == "not measured: fails: it broke"


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([3.0, 1.0, 2.0], 0.5, 2.0), ([1.0], 0.99, 1.0), ([float(n) for n in range(100)], 0.99, 99.0)],
)
def test_a_quantile_is_one_of_the_values(values: list[float], share: float, expected: float) -> None:
    assert quantile(values, share) == expected


def test_a_quantile_of_no_values_is_an_error() -> None:
    with pytest.raises(ValueError, match="wanted at least one value, got none"):
        quantile([], 0.5)


def test_latencies_are_printed_in_milliseconds() -> None:
    found = [(one.name, one.value, one.unit) for one in latencies("part", "there", [0.5, 0.25, 1.0])]
    assert found == [("there, p50", 500.0, "ms"), ("there, p99", 1000.0, "ms")]
