"""Why our X509-SVID could not be had of the Workload API, as reasons that a metric counts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Protocol, runtime_checkable

from meshtls.observe.metrics.declaring import Label, counter
from meshtls.observe.metrics.values import Metrics

__all__ = ["WORKLOAD_API_FAILURES", "CountsIdentityFailures", "IdentityFailure", "count_identity_failures"]


class IdentityFailure(Enum):
    """Why one attempt brought no X509-SVID that can be used."""

    #: Nothing answers, or the connection was lost.
    UNREACHABLE = "unreachable"
    #: The operating system does not let this user open the socket.
    SOCKET_DENIED = "socket_denied"
    #: It answers that it has none now: it waits for its server, or its SVIDs have expired.
    NOT_READY = "not_ready"
    #: No entry matches this process.
    NO_IDENTITY = "no_identity"
    #: There are SVIDs, and none of the identity that is wanted.
    OTHER_IDENTITY = "other_identity"
    #: The SVIDs have expired: they were not renewed, or a clock is wrong.
    EXPIRED = "expired"
    OTHER = "other"


@runtime_checkable
class CountsIdentityFailures(Protocol):
    """A source of X509-SVIDs that asks a Workload API."""

    @property
    def failures(self) -> Mapping[IdentityFailure, int]:
        """How many attempts have failed, by their reason."""


WORKLOAD_API_FAILURES = counter(
    "meshtls_workload_api_failures_total",
    "Attempts to get our X509-SVID from the Workload API that failed: nothing answers there, this user may not open the"
    " socket, it has no SVID now, no entry matches this process, it has other identities only, or what it sent has"
    " expired.",
    Label("reason", tuple(one.value for one in IdentityFailure)),
)


def count_identity_failures(metrics: Metrics, read: Callable[[], Mapping[IdentityFailure, int]]) -> None:
    """Before each scrape, take the counts that ``read`` returns."""
    failures = metrics.counter(WORKLOAD_API_FAILURES)
    counts = {reason: failures.labels(reason.value) for reason in IdentityFailure}

    def refresh() -> None:
        for reason, number in read().items():
            counts[reason].value = number

    metrics.before_scrape(refresh)
