"""Metrics: declarations, values, snapshots of several processes, and the text that scrapers read.

``prometheus_client`` is not used: its counters cost four times ours, and its way with several processes writes files.
"""

from __future__ import annotations

from meshtls.observe.metrics.declaring import OTHER, Family, Kind, Label, Merge, counter, gauge, histogram, info
from meshtls.observe.metrics.exposition import Format, Scrape, format_for, render, scrape
from meshtls.observe.metrics.snapshot import Samples, Snapshot, decode, encode, merge
from meshtls.observe.metrics.values import (
    Count,
    Counter,
    Distribution,
    Gauge,
    Histogram,
    Info,
    Level,
    Metrics,
)

__all__ = [
    "OTHER",
    "Count",
    "Counter",
    "Distribution",
    "Family",
    "Format",
    "Gauge",
    "Histogram",
    "Info",
    "Kind",
    "Label",
    "Level",
    "Merge",
    "Metrics",
    "Samples",
    "Scrape",
    "Snapshot",
    "counter",
    "decode",
    "encode",
    "format_for",
    "gauge",
    "histogram",
    "info",
    "merge",
    "render",
    "scrape",
]
