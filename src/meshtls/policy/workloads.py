"""The workload that a SPIFFE ID names, for scopes and selectors. Pure."""

from __future__ import annotations

from meshtls.policy.istio.model import Labels, Workload
from meshtls.spiffeid import SpiffeId

__all__ = ["workload_of"]


def workload_of(spiffe_id: SpiffeId, labels: Labels = (), namespace: str | None = None) -> Workload:
    """Namespace and service account are those of ``/ns/<namespace>/sa/<account>``; another ID is in ``default``.

    ``namespace`` replaces that of the ID. Labels are no part of an ID: without them no selector matches.
    """
    segments = spiffe_id.segments
    named = len(segments) >= 2 and segments[0] == "ns"
    return Workload(
        namespace=namespace or (segments[1] if named else "default"),
        labels=labels,
        service_account=segments[3] if named and len(segments) >= 4 and segments[2] == "sa" else None,
    )
