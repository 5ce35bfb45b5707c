"""The benchmark of reading packets: each way over each mix of sizes, and its table."""

from __future__ import annotations

from bench.capture import frame_table
from bench.capture_frames import BARE, SIZES, FrameCost, frame_costs


def test_each_way_is_measured_with_each_mix_of_sizes() -> None:
    found = frame_costs(0.001)
    ways = list(dict.fromkeys(one.way for one in found))
    assert ways[0] == BARE
    assert [(one.way, one.payloads) for one in found] == [(way, mix) for mix in SIZES for way in ways]
    assert all(one.nanoseconds > 0 for one in found)
    assert {one.frame_bytes for one in found if one.payloads == "64"} == {72.0}


def test_the_table_has_the_cost_beside_the_baseline() -> None:
    costs = [FrameCost(way, mix, spent, 72) for mix in SIZES for way, spent in ((BARE, 50.0), ("a way", 75.0))]
    assert frame_table(costs).splitlines() == [
        "| frames | payloads of 64: CPU-ns a frame | million/s of a core |"
        " payloads of 0 to 1,400: CPU-ns a frame | million/s of a core |",
        "|---|---:|---:|---:|---:|",
        f"| {BARE} | 50 (1.00) | 20.0 | 50 (1.00) | 20.0 |",
        "| a way | 75 (1.50) | 13.3 | 75 (1.50) | 13.3 |",
    ]
