"""Which of a peer's claims about a request's origin are accepted, and what is forwarded."""

from __future__ import annotations

import pytest

from meshtls.wire.origin import NOWHERE, Origin, forwarded_by, new_traceparent, origin_of

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_new_trace_id_is_valid() -> None:
    first, second = new_traceparent(), new_traceparent()
    assert first != second
    assert origin_of([(b"traceparent", first)]).traceparent == first


@pytest.mark.parametrize(
    ("claims", "taken"),
    [
        ([(b"traceparent", TRACE)], Origin(traceparent=TRACE)),
        ([(b"traceparent", TRACE), (b"traceparent", TRACE)], NOWHERE),
        ([(b"traceparent", TRACE.upper())], NOWHERE),
        ([(b"traceparent", TRACE + b"-1")], NOWHERE),
        ([(b"traceparent", b"00-" + b"0" * 32 + TRACE[35:])], NOWHERE),
        ([(b"traceparent", TRACE[:36] + b"0" * 16 + b"-01")], NOWHERE),
        ([(b"traceparent", b"ff" + TRACE[2:])], NOWHERE),
        ([(b"baggage", b"a=1"), (b"baggage", b"b=2")], Origin(baggage=b"a=1,b=2")),
        ([(b"baggage", b"x" * 4096)], Origin(baggage=b"x" * 4096)),
        ([(b"baggage", b"x" * 4097)], NOWHERE),
        ([(b"baggage", b"a=\x1b[2J")], NOWHERE),
        ([(b"baggage", b"a=\xc3\xa9")], NOWHERE),
        ([(b"forwarded", b"for=10.0.0.1"), (b"forwarded", b"for=_x")], Origin(forwarded=b"for=10.0.0.1,for=_x")),
        ([(b"forwarded", b"x" * 1025)], NOWHERE),
        ([(b"forwarded", b"")], NOWHERE),
    ],
)
def test_a_claim_is_accepted_only_if_well_formed_and_short(claims: list[tuple[bytes, bytes]], taken: Origin) -> None:
    assert origin_of(claims) == taken


@pytest.mark.parametrize(
    ("before", "host", "after"),
    [
        (b"", "10.0.0.1", b"for=10.0.0.1"),
        (b"for=10.0.0.1", "::1", b'for=10.0.0.1,for="[::1]"'),
        (b"f" * 1020, "10.0.0.1", b"for=10.0.0.1"),
    ],
)
def test_a_hop_is_added_and_the_whole_is_bounded(before: bytes, host: str, after: bytes) -> None:
    assert forwarded_by(Origin(TRACE, b"a=1", before), host) == Origin(TRACE, b"a=1", after)


def test_a_hop_of_which_no_address_is_known_is_unknown() -> None:
    assert forwarded_by(NOWHERE, "").forwarded == b"for=unknown"
