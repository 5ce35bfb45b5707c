"""What the benchmark of captures computes: medians with their confidence, the rate of a line, its table."""

from __future__ import annotations

import pytest

from bench.capture_measuring import Capture, CaptureReport, Measured, capture_table
from bench.capture_programs import ANALYSIS, SCAPY, TSHARK
from bench.capture_rates import Median, line_rate, median_of
from bench.report import Machine

MACHINE = Machine("a CPU", 2, "6.1", "3.11.7", "OpenSSL 3", 0.1)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([5.0], Median(5.0, 5.0, 5.0, 0.0)),
        ([2.0, 1.0], Median(1.5, 1.0, 2.0, 0.5)),
        ([3.0, 1.0, 2.0, 5.0, 4.0], Median(3.0, 1.0, 5.0, 0.9375)),
        ([6.0, 5.0, 4.0, 3.0, 2.0, 1.0], Median(3.5, 1.0, 6.0, 0.96875)),
        ([float(one) for one in range(1, 10)], Median(5.0, 2.0, 8.0, 0.9609375)),
    ],
)
def test_the_interval_of_a_median_is_between_measurements_and_has_its_confidence(
    values: list[float], found: Median
) -> None:
    assert median_of(values) == found


@pytest.mark.parametrize(
    ("sizes", "gigabits", "frames"),
    [
        # The figures that vendors print for 64 and 1,518 bytes with the check sequence.
        ({60: 1}, 1, 1_488_095),
        ({60: 1}, 10, 14_880_952),
        ({1514: 7}, 1, 81_274),
        ({54: 1}, 1, 1_488_095),
        ({60: 1, 1514: 1}, 1, 154_131),
    ],
)
def test_a_line_carries_frames_with_preamble_and_gap(sizes: dict[int, int], gigabits: float, frames: int) -> None:
    assert round(line_rate(sizes, gigabits)) == frames


def test_the_table_has_rates_lines_and_ratios_of_the_same_round() -> None:
    cells = [
        Measured(name, "a mix", number, rate * (number + 1), 0.25)
        for number in range(3)
        for name, rate in ((ANALYSIS, 120_000.0), (TSHARK, 60_000.0))
    ]
    cells.append(Measured(SCAPY, "a mix", 0, error="scapy: exit code 1: no"))
    report = CaptureReport(
        MACHINE,
        [Capture("a mix", 5000, 20, 500.0, {1: 238_000.4, 10: 2_380_000.0})],
        {ANALYSIS: "", TSHARK: "TShark 4", SCAPY: "scapy 2"},
        cells,
    )
    assert capture_table(report).splitlines() == [
        "| packets/s of a core | a mix |",
        "|---|---:|",
        "| packets in the capture | 5,000 |",
        "| connections | 20 |",
        "| bytes of a frame, on average | 500 |",
        "| meshtls: full analysis | 240 k (120 k to 360 k), 120 MB/s |",
        "| tshark | 120 k (60 k to 180 k), 60 MB/s |",
        "| scapy | failed |",
        "| line of 1 Gbit/s, full | 238 k |",
        "| line of 10 Gbit/s, full | 2,380 k |",
        "| meshtls: full analysis / tshark | 2.00 (2.00 to 2.00) |",
        "| meshtls: full analysis / scapy | - |",
        "",
        "medians of 3 rounds; in brackets an interval with a confidence of 75 %",
        "CPU-s to start, taken off: meshtls: full analysis 0.25, tshark 0.25",
        "versions: TShark 4, scapy 2",
        "failed: scapy: exit code 1: no",
    ]
