"""Where a stream says that it comes from: ``traceparent``, ``baggage`` and ``forwarded`` of its CONNECT. Pure.

They are for telemetry: W3C Trace Context and W3C Baggage, with the keys that Istio's ztunnel and waypoints read of a
source, and RFC 7239. What a peer says there is a claim that nothing proves. It goes into the access log, and on to the
next tunnel, and nothing is decided by it; the source's identity is that of its certificate. What breaks its syntax or
is too long is dropped, as those standards say.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from meshtls.sidecar.settings import Workload
from meshtls.spiffeid import SpiffeId

__all__ = ["NOWHERE", "Handover", "Origin", "baggage_of", "forwarded_by", "new_traceparent", "origin_of"]

#: W3C Baggage, section 3.3.2: what has to be passed on whole is up to 8192 bytes. Four such headers would be a peer's
#: whole header list.
_MOST_BAGGAGE, _MOST_FORWARDED = 4096, 1024
#: Version 00, and neither ID all zeros (W3C Trace Context, section 3.2).
_TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_PRINTABLE = re.compile(rb"[\x20-\x7e]+")
_ISTIO_ID = re.compile(r"/ns/([^/]+)/sa/([^/]+)")
#: What RFC 3986 leaves as it is; all other characters of a value are percent-encoded.
_PLAIN = "-._~"


class Origin(NamedTuple):
    """b"" is not said."""

    traceparent: bytes = b""
    baggage: bytes = b""
    forwarded: bytes = b""


NOWHERE = Origin()


def origin_of(fields: Iterable[tuple[bytes, bytes]]) -> Origin:
    """What a peer's header fields say, without what is malformed. ``traceparent`` twice is none."""
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        found[name] = b"%s,%s" % (found[name], value) if name in found else value
    trace = found.get(b"traceparent", b"")
    return Origin(
        trace if _TRACEPARENT.fullmatch(trace) else b"",
        _printable(found.get(b"baggage", b""), _MOST_BAGGAGE),
        _printable(found.get(b"forwarded", b""), _MOST_FORWARDED),
    )


@lru_cache(maxsize=64)
def _printable(value: bytes, most: int) -> bytes:
    return value if len(value) <= most and _PRINTABLE.fullmatch(value) else b""


def new_traceparent() -> bytes:
    """The beginning of a trace that nobody records yet."""
    ids = os.urandom(24).hex()
    return f"00-{ids[:32]}-{ids[32:]}-00".encode()


def baggage_of(workload: Workload, name: str, spiffe_id: SpiffeId) -> bytes:
    """What Istio's telemetry reads of a source. Namespace and service are those of the SPIFFE ID and of the sidecar's
    name where the file does not say them.
    """
    found = _ISTIO_ID.fullmatch(spiffe_id.path)
    members = {
        "k8s.cluster.name": workload.cluster,
        "k8s.namespace.name": workload.namespace or (found[1] if found else ""),
        "k8s.deployment.name": workload.deployment,
        "service.name": workload.service or name,
        "service.version": workload.version,
    }
    return ",".join(f"{key}={quote(value, safe=_PLAIN)}" for key, value in members.items() if value).encode()


def forwarded_by(origin: Origin, host: str) -> Origin:
    """The same with one hop more (RFC 7239, section 4)."""
    node = _node(host)
    hops = b"%s,%s" % (origin.forwarded, node) if origin.forwarded else node
    return origin._replace(forwarded=hops if len(hops) <= _MOST_FORWARDED else node)


@lru_cache(maxsize=64)
def _node(host: str) -> bytes:
    return (f'for="[{host}]"' if ":" in host else f"for={host}").encode()


class Handover:
    """Passes origins on within a sidecar whose inbound app is one of its own outbound listeners: by the address of the
    socket between the two. What nobody takes is dropped after a while, the oldest first.
    """

    _MOST = 1024

    def __init__(self) -> None:
        self._left: OrderedDict[tuple[str, int], Origin] = OrderedDict()

    def leave(self, address: tuple[str, int], origin: Origin) -> None:
        """For the connection that comes from this address."""
        self._left[address] = origin
        self._left.move_to_end(address)
        if len(self._left) > self._MOST:
            self._left.popitem(last=False)

    def take(self, address: tuple[str, int]) -> Origin:
        """NOWHERE unless there is one."""
        return self._left.pop(address, NOWHERE) if self._left else NOWHERE

    def __repr__(self) -> str:
        return f"<Handover [{len(self._left)} left]>"
