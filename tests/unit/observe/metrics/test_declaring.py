"""A metric is checked as it is declared."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meshtls.observe.metrics import Family, Label, counter, gauge, histogram, info

WANTED = "wanted a name of letters, digits and underscores that begins with no digit"


@pytest.mark.parametrize(
    ("declare", "problem"),
    [
        (lambda: counter("test-x_total", "X."), f"metric test-x_total: {WANTED}"),
        (lambda: counter("0x_total", "X."), f"metric 0x_total: {WANTED}"),
        (lambda: counter("a:x_total", "X."), f"metric a:x_total: {WANTED}"),
        (lambda: counter("x_total\n", "X."), "metric x_total\\n: wanted a name"),
        (lambda: counter("x", "X."), "metric x: wanted a name that ends with _total, as each counter's does"),
        (lambda: info("x", "X."), "metric x: wanted a name that ends with _info, as each info's does"),
        (lambda: gauge("x_total", "X."), "metric x_total: wanted a name without _total, got a gauge"),
        (
            lambda: histogram("x_count", "X.", buckets=(1,)),
            "metric x_count: wanted a name without _count, got a histogram",
        ),
        (lambda: gauge("x", ""), "metric x: wanted a text that says what it is, got none"),
        (lambda: gauge("x", "X.", unit="bytes"), "metric x: wanted the unit bytes at the end of the name"),
        (lambda: gauge("x", "X.", "le"), "metric x: wanted another label than 'le'"),
        (lambda: gauge("x", "X.", "__name"), "metric x: wanted another label than '__name'"),
        (lambda: gauge("x", "X.", "a-b"), "metric x: wanted another label than 'a-b'"),
        (lambda: gauge("x", "X.", "a", "a"), "metric x: wanted each label once, got a, a"),
        (lambda: gauge("x", "X.", most=0), "metric x: wanted room for at least one value"),
        (lambda: gauge("x", "X.", Label("a", most=0)), "metric x: wanted room for at least one value"),
        (lambda: histogram("x", "X.", buckets=()), "metric x: wanted finite buckets that ascend, got ()"),
        (lambda: histogram("x", "X.", buckets=(2, 1)), "metric x: wanted finite buckets that ascend, got (2, 1)"),
        (
            lambda: histogram("x", "X.", buckets=(1, float("inf"))),
            "metric x: wanted finite buckets that ascend, got (1, inf)",
        ),
    ],
)
def test_a_declaration_that_scrapers_would_refuse_is_an_error(declare: Callable[[], Family], problem: str) -> None:
    with pytest.raises(ValueError) as raised:
        declare()
    assert str(raised.value).replace("\n", "\\n").startswith(problem)


def test_a_good_declaration_knows_its_samples() -> None:
    sent = counter("test_sent_bytes_total", "Bytes.", "peer", unit="bytes")
    assert (sent.base, sent.sample_names) == ("test_sent_bytes", ("test_sent_bytes_total",))
    time = histogram("test_time_seconds", "Time.", buckets=(1,), unit="seconds")
    assert time.sample_names == ("test_time_seconds_bucket", "test_time_seconds_count", "test_time_seconds_sum")
