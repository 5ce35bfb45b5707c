"""W3C Trace Context, sections 3.2 and 3.3: what is read, what counts as none, and what the app gets."""

from __future__ import annotations

import pytest

from meshtls.wire.trace_context import RANDOM, SAMPLED, SpanContext, TraceContext, parsed, passed_on, read

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"
KEY, VALUE = "k" * 256, "v" * 256


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (VALID, SAMPLED),
        (f" {VALID}\t", SAMPLED),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-03", SAMPLED | RANDOM),
        (f"00-{TRACE}-{SPAN}-ff", SAMPLED | RANDOM),
        (f"01-{TRACE}-{SPAN}-01", SAMPLED),
        (f"fe-{TRACE}-{SPAN}-01-what-comes-later", SAMPLED),
        (f"cc-{TRACE}-{SPAN}-01-", SAMPLED),
    ],
)
def test_a_valid_traceparent_is_read_as_far_as_version_00_goes(text: str, flags: int) -> None:
    assert parsed(text) == TraceContext(bytes.fromhex(TRACE), bytes.fromhex(SPAN), flags)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        VALID[:-1],
        f"{VALID}0",
        f"{VALID}-",
        f"{VALID}-more",
        f"01{VALID[2:]}more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"00-{TRACE}-{SPAN}-0G",
        f"0x-{TRACE}-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00- {TRACE}-{SPAN}-01",
        f"{VALID}\n",
        f"00-{'١' * 32}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 257}",
        f"cc-{TRACE}-{SPAN}-01-\x00",
    ],
)
def test_a_malformed_traceparent_counts_as_none(text: str) -> None:
    assert parsed(text, "a=1") is None
    assert parsed(VALID, "a=1") is not None


@pytest.mark.parametrize(
    ("came", "passed"),
    [
        ("", ""),
        ("a=1", "a=1"),
        ("a=1,b=2", "a=1,b=2"),
        ("a=1 ,\t b=2", "a=1,b=2"),
        ("a=1,,b=2,", "a=1,b=2"),
        ("0a=x y!~", "0a=x y!~"),
        ("tenant@system=1", "tenant@system=1"),
        ("a_-*/1=;:[]", "a_-*/1=;:[]"),
        (f"{KEY}={VALUE}", f"{KEY}={VALUE}"),
        (",".join(f"k{n}=1" for n in range(32)), ",".join(f"k{n}=1" for n in range(32))),
    ],
)
def test_a_valid_tracestate_is_passed_on(came: str, passed: str) -> None:
    context = parsed(VALID, came)
    assert context is not None
    assert context.state == passed


@pytest.mark.parametrize(
    "came",
    [
        "a",
        "a=",
        "=1",
        "A=1",
        "_a=1",
        "a =1",
        "a=1=2",
        "a=1,a=2",
        "a=\x7f",
        "a=é",
        "a=1,b",
        f"{KEY}k=1",
        f"a={VALUE}v",
        ",".join(f"k{n}=1" for n in range(33)),
        ",".join(f"k{n}={'v' * 250}" for n in range(20)),
    ],
)
def test_a_malformed_tracestate_is_dropped_and_its_traceparent_stays(came: str) -> None:
    assert parsed(VALID, came) == parsed(VALID)


def test_lines_of_tracestate_are_one_list_and_two_traceparents_are_none() -> None:
    states = (("tracestate", "a=1"), ("x-other", "?"), ("tracestate", "b=2"))
    found = read((("traceparent", VALID), *states))
    assert found is not None
    assert found.state == "a=1,b=2"
    assert read((("traceparent", VALID), ("traceparent", VALID), *states)) is None
    assert read(states) is None


def test_the_app_gets_our_span_in_the_place_of_what_came() -> None:
    ours = SpanContext(bytes.fromhex(TRACE), bytes.fromhex(SPAN), flags=SAMPLED, state="a=1")
    came = (("traceparent", "x"), ("accept", "*/*"), ("tracestate", "y"), ("traceparent", "z"))
    assert passed_on(came, ours) == (("accept", "*/*"), ("traceparent", VALID), ("tracestate", "a=1"))
    assert passed_on((), ours._replace(state="", flags=0)) == (("traceparent", f"00-{TRACE}-{SPAN}-00"),)
