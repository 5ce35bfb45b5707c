"""The origin that our side claims for a stream, and how origins pass from an inbound to an outbound connection.

The baggage has the keys that Istio's ztunnel and waypoints read of a source.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from urllib.parse import quote

from meshtls.memo import keep_newest
from meshtls.sidecar.settings import Workload
from meshtls.spiffeid import SpiffeId
from meshtls.wire.origin import NOWHERE, Origin

__all__ = ["Handover", "baggage_of"]

_ISTIO_ID = re.compile(r"/ns/([^/]+)/sa/([^/]+)")
#: The characters that RFC 3986 leaves unreserved; all others of a value are percent-encoded.
_PLAIN = "-._~"


def baggage_of(workload: Workload, name: str, spiffe_id: SpiffeId) -> bytes:
    """What Istio's telemetry reads of a source. Namespace and service come from the SPIFFE ID and the sidecar's name if
    the file does not name them.
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


class Handover:
    """Passes origins on within a sidecar whose inbound app is one of its own outbound listeners: by the address of the
    socket between the two. An origin that is not taken is dropped after a while, the oldest first.
    """

    _MOST = 1024

    def __init__(self) -> None:
        self._left: OrderedDict[tuple[str, int], Origin] = OrderedDict()

    def put(self, address: tuple[str, int], origin: Origin) -> None:
        """Store the origin of the connection that comes from this address."""
        keep_newest(self._left, address, origin, self._MOST)

    def take(self, address: tuple[str, int]) -> Origin:
        """Remove and return the origin; NOWHERE if there is none."""
        return self._left.pop(address, NOWHERE) if self._left else NOWHERE

    def __repr__(self) -> str:
        return f"<Handover [{len(self._left)} left]>"
