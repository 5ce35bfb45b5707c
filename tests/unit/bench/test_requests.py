"""The benchmark of requests: its table."""

from __future__ import annotations

from bench.report import Machine
from bench.requests.cli import Cell, RequestsReport, plain


def test_the_table_has_the_medians_and_leaves_out_what_was_not_measured() -> None:
    cells = [
        Cell("meshtls", "http1", 0, 90.0),
        Cell("meshtls", "http1", 1, 80.04),
        Cell("meshtls", "http1", 2, 70.0),
        Cell("envoy", "http1", 0, 95.0),
        Cell("envoy", "http1", 1, error="it broke"),
        Cell("envoy", "grpc", 0, 120.0),
    ]
    versions = {"meshtls": "meshtls/1", "envoy": "envoy/1"}
    report = RequestsReport("now", Machine("cpu", 2, "linux", "3.11", "3.0", 0.5), 100, versions, cells)
    assert plain(report).splitlines() == [
        "| CPU-µs for each | meshtls | envoy |",
        "|---|---:|---:|",
        "| request, HTTP/1.1 keep-alive, 64 connections | 80.0 | 95.0 |",
        "| unary gRPC call, 8 connections of 8 streams | - | 120.0 |",
        "",
        "load average before the run: 0.5 on 2 CPUs",
    ]
