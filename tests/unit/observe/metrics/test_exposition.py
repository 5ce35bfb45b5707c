"""The text of a scrape, as Prometheus's own parsers read it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from meshtls.observe.metrics import (
    Format,
    Metrics,
    counter,
    format_for,
    gauge,
    histogram,
    info,
    render,
    scrape,
)

BYTES = counter("test_sent_bytes_total", 'Bytes "sent"\\\nto peers.', "peer", unit="bytes")
OPEN = gauge("test_open_connections", "Open connections.")
TIME = histogram("test_time_seconds", "Time.", "direction", buckets=(0.1, 1, 10), unit="seconds")
BUILD = info("test_build_info", "The build.", "version", "openssl")

Read = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def filled(peer: str = "spiffe://a.test/web") -> Metrics:
    metrics = Metrics()
    metrics.counter(BYTES).labels(peer).inc(1500)
    metrics.gauge(OPEN).set(2.5)
    times = metrics.histogram(TIME).labels("inbound")
    for seconds in (0.05, 0.1, 5, 100):
        times.observe(seconds)
    metrics.info(BUILD).tell("1.2", "OpenSSL 3.5")
    return metrics


def families(form: Format, text: str) -> list[Any]:
    if form is Format.OPENMETRICS:
        return list(read_openmetrics(text))  # type: ignore[no-untyped-call]
    return list(read_text(text))


def read(form: Format, content: bytes) -> Read:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families(form, content.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize("form", Format)
def test_both_formats_are_read_by_the_parsers_of_prometheus(form: Format) -> None:
    inbound = ("direction", "inbound")
    assert read(form, render(filled().snapshot(), form)) == {
        ("test_sent_bytes_total", (("peer", "spiffe://a.test/web"),)): 1500,
        ("test_open_connections", ()): 2.5,
        ("test_time_seconds_bucket", (inbound, ("le", "0.1"))): 2,
        ("test_time_seconds_bucket", (inbound, ("le", "1.0"))): 2,
        ("test_time_seconds_bucket", (inbound, ("le", "10.0"))): 3,
        ("test_time_seconds_bucket", (inbound, ("le", "+Inf"))): 4,
        ("test_time_seconds_count", (inbound,)): 4,
        ("test_time_seconds_sum", (inbound,)): 105.15,
        ("test_build_info", (("openssl", "OpenSSL 3.5"), ("version", "1.2"))): 1,
    }


def test_openmetrics_has_types_units_help_and_its_end() -> None:
    text = render(filled().snapshot(), Format.OPENMETRICS).decode()
    found = families(Format.OPENMETRICS, text)
    assert {one.name: (one.type, one.unit, one.documentation) for one in found} == {
        "test_sent_bytes": ("counter", "bytes", 'Bytes "sent"\\\nto peers.'),
        "test_open_connections": ("gauge", "", "Open connections."),
        "test_time_seconds": ("histogram", "seconds", "Time."),
        "test_build": ("info", "", "The build."),
    }
    assert text.endswith("# EOF\n")


def test_text_has_types_and_help() -> None:
    lines = render(filled().snapshot(), Format.TEXT).decode().split("\n")
    assert [line for line in lines if line.startswith("#")] == [
        '# HELP test_sent_bytes_total Bytes "sent"\\\\\\nto peers.',
        "# TYPE test_sent_bytes_total counter",
        "# HELP test_open_connections Open connections.",
        "# TYPE test_open_connections gauge",
        "# HELP test_time_seconds Time.",
        "# TYPE test_time_seconds histogram",
        "# HELP test_build_info The build.",
        "# TYPE test_build_info gauge",
    ]


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize(
    ("peer", "shown"),
    [
        ('a"} 1\nforged_total{x="y', 'a"} 1\\nforged_total{x="y'),
        ("back\\slash", "back\\slash"),
        ("\x1b[31m\r\x00", "\\x1b[31m\\r\\x00"),
        ("\u202e\u2028", "\\u202e\\u2028"),
        ("\udcff", "\\xff"),
        ("größer", "größer"),
    ],
)
def test_a_hostile_label_value_forges_no_line(form: Format, peer: str, shown: str) -> None:
    found = read(form, render(filled(peer).snapshot(), form))
    assert [key for key in found if "forged" in key[0]] == []
    assert found["test_sent_bytes_total", (("peer", shown),)] == 1500


@given(value=st.text(max_size=50))
@settings(max_examples=200, deadline=None)
def test_any_label_value_is_one_sample(value: str) -> None:
    metrics = Metrics()
    metrics.counter(BYTES).labels(value).inc()
    for form in Format:
        found = read(form, render(metrics.snapshot(), form))
        assert [name for name, _ in found] == ["test_sent_bytes_total"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (True, "1"),
        (3.0, "3"),
        (0.1, "0.1"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (float("nan"), "NaN"),
    ],
)
def test_numbers_are_written_as_go_reads_them(number: float, text: str) -> None:
    metrics = Metrics()
    metrics.gauge(OPEN).set(number)
    assert f"\ntest_open_connections {text}\n" in render(metrics.snapshot(), Format.TEXT).decode()


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Format.TEXT),
        ("*/*", Format.TEXT),
        ("text/html,*/*;q=0.8", Format.TEXT),
        ("text/plain; version=0.0.4", Format.TEXT),
        ("application/openmetrics-text", Format.OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", Format.OPENMETRICS),
        ("APPLICATION/OPENMETRICS-TEXT;VERSION=1.0.0", Format.OPENMETRICS),
        # Prometheus 2.42, and 3 with UTF-8 names
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Format.OPENMETRICS,
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.2",
            Format.OPENMETRICS,
        ),
        ("application/openmetrics-text;version=0.0.1", Format.TEXT),
        ("application/openmetrics-text;q=0.1,text/plain;q=0.9", Format.TEXT),
        ("application/openmetrics-text;q=0", Format.TEXT),
        ("application/openmetrics-text;q=nan", Format.TEXT),
        ("application/openmetrics-text;q=1e9", Format.TEXT),
        (";;;,=,q=", Format.TEXT),
    ],
)
def test_the_format_is_the_one_that_accept_prefers(accept: str, form: Format) -> None:
    assert format_for(accept) is form
    assert scrape(filled().snapshot(), accept).content_type == form.value
