"""Where a request says that it comes from: ``traceparent``, ``baggage`` and ``forwarded``. Pure.

These are W3C Trace Context, W3C Baggage and RFC 7239, for telemetry. They are claims that nothing proves: they go into
the access log and on to the next hop, and nothing is decided by them; the source's identity is in its certificate. A
field that breaks its syntax or is too long is dropped, as those standards say.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

__all__ = ["NOWHERE", "Origin", "forwarded_by", "is_traceparent", "new_traceparent", "origin_of"]

#: W3C Baggage, section 3.3.2, wants up to 8192 bytes to be passed on whole. Four such headers would fill a peer's whole
#: header list.
_MOST_BAGGAGE, _MOST_FORWARDED = 4096, 1024
#: Version 00, and neither ID all zeros (W3C Trace Context, section 3.2).
_TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_PRINTABLE = re.compile(rb"[\x20-\x7e]+")


class Origin(NamedTuple):
    """The fields' values; b"" for a field that is missing."""

    traceparent: bytes = b""
    baggage: bytes = b""
    forwarded: bytes = b""


NOWHERE = Origin()


def origin_of(fields: Iterable[tuple[bytes, bytes]]) -> Origin:
    """What a peer's header fields claim, without what is malformed. Two ``traceparent`` count as none."""
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        found[name] = b"%s,%s" % (found[name], value) if name in found else value
    trace = found.get(b"traceparent", b"")
    return Origin(
        trace if is_traceparent(trace) else b"",
        _printable(found.get(b"baggage", b""), _MOST_BAGGAGE),
        _printable(found.get(b"forwarded", b""), _MOST_FORWARDED),
    )


def is_traceparent(value: bytes) -> bool:
    """Whether it has the syntax of version 00."""
    return _TRACEPARENT.fullmatch(value) is not None


@lru_cache(maxsize=64)
def _printable(value: bytes, most: int) -> bytes:
    return value if len(value) <= most and _PRINTABLE.fullmatch(value) else b""


def new_traceparent() -> bytes:
    """The start of a trace, with the flag that it is not sampled."""
    ids = os.urandom(24).hex()
    return f"00-{ids[:32]}-{ids[32:]}-00".encode()


def forwarded_by(origin: Origin, host: str) -> Origin:
    """The same with one hop more (RFC 7239, section 4)."""
    node = _node(host)
    hops = b"%s,%s" % (origin.forwarded, node) if origin.forwarded else node
    return origin._replace(forwarded=hops if len(hops) <= _MOST_FORWARDED else node)


@lru_cache(maxsize=64)
def _node(host: str) -> bytes:
    return (f'for="[{host}]"' if ":" in host else f"for={host or 'unknown'}").encode()
