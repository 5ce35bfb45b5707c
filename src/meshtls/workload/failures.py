"""The failures of a Workload API call, as one error that says whether they are temporary."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable
from datetime import datetime

from google.protobuf.message import DecodeError
from grpclib import GRPCError, Status
from grpclib.exceptions import StreamTerminatedError

from meshtls.errors import LocalIdentityError
from meshtls.observe.metrics.workload_api import IdentityFailure
from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import X509Svid, format_moment

__all__ = [
    "CALL_FAILURES",
    "ExpiredSvidError",
    "OtherIdentityError",
    "WorkloadApiError",
    "expired_text",
    "failure_of",
    "other_identity",
    "reason_of",
]

# The exceptions of a call through grpclib; TimeoutError is an OSError.
CALL_FAILURES = (GRPCError, StreamTerminatedError, OSError, DecodeError)

# A retry would get the same answer (SPIFFE Workload API, section 4.5).
_FINAL = (Status.INVALID_ARGUMENT, Status.UNIMPLEMENTED)
_REASON = "no identity issued: "
_ADVICE = {
    Status.PERMISSION_DENIED: "no identity for this process; create an entry that matches its selectors",
    Status.INVALID_ARGUMENT: "the request breaks a rule of the Workload API, so it is not retried",
    Status.UNIMPLEMENTED: "the server there is not a Workload API or lacks this method, so it is not retried",
}


class WorkloadApiError(LocalIdentityError):
    """The Workload API can't be reached, or refused.

    ``temporary``: a later attempt may succeed. ``status``: the gRPC status, if there was one. ``is_end``: the stream
    ended without an error.
    """

    def __init__(
        self, message: str, *, temporary: bool = True, status: Status | None = None, is_end: bool = False
    ) -> None:
        super().__init__(message)
        self.temporary = temporary
        self.status = status
        self.is_end = is_end

    @property
    def withdraws(self) -> bool:
        """Whether earlier states must no longer be used (SPIFFE Workload API, sections 5.2 and 6.2)."""
        return self.status is Status.PERMISSION_DENIED


class ExpiredSvidError(LocalIdentityError):
    """What the Workload API sends has expired, or it sends no newer one in the place of ours."""


class OtherIdentityError(LocalIdentityError):
    """The Workload API sends SVIDs, and none of them fits."""


def reason_of(error: LocalIdentityError) -> IdentityFailure:
    """What a metric counts this failure as."""
    if isinstance(error, ExpiredSvidError):
        return IdentityFailure.EXPIRED
    if isinstance(error, OtherIdentityError):
        return IdentityFailure.OTHER_IDENTITY
    cause = error.__cause__
    if isinstance(cause, StreamTerminatedError | OSError):
        denied = isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM)
        return IdentityFailure.SOCKET_DENIED if denied else IdentityFailure.UNREACHABLE
    if isinstance(error, WorkloadApiError):
        if error.withdraws:
            return IdentityFailure.NO_IDENTITY
        if error.status is Status.UNAVAILABLE:
            return IdentityFailure.NOT_READY
        if error.is_end or error.status is Status.DEADLINE_EXCEEDED:
            return IdentityFailure.UNREACHABLE
    return IdentityFailure.OTHER


def expired_text(svids: Iterable[X509Svid], now: datetime) -> str:
    """When each of these expired, and what our clock says."""
    ends = ", ".join(f"{svid.spiffe_id} expired at {format_moment(svid.not_after)}" for svid in svids)
    return f"{ends}; our clock says {format_moment(now)}"


def other_identity(wanted: SpiffeId, given: Iterable[SpiffeId], without_svid: Collection[str]) -> tuple[str, str]:
    """What is wrong where no SVID that is given is of the wanted identity, and what to do.

    ``without_svid`` are the SPIFFE IDs that this process has by an entry, and of which the agent has no valid SVID.
    """
    advice = "create an entry for it, or correct spiffe_id"
    if str(wanted) in without_svid:
        advice = "it has an entry, and the agent has no valid SVID: `meshtls admin ready` of the agent says why"
    return f"wanted an SVID of {wanted}, got {', '.join(map(str, given)) or 'none'}", advice


def failure_of(error: BaseException, method: str, address: object) -> WorkloadApiError:
    """The WorkloadApiError for one of CALL_FAILURES, in words for an operator."""
    where = f"Workload API at {address}, {method.rpartition('/')[2]}"
    if _is_over(error):
        return WorkloadApiError(f"{where}: no answer in time", status=Status.DEADLINE_EXCEEDED)
    if isinstance(error, GRPCError):
        words = f"{error.status.name}: {error.message or 'no reason given'}"
        # An agent that says why there is no identity needs no advice of ours.
        has_reason = error.status is Status.PERMISSION_DENIED and (error.message or "").startswith(_REASON)
        advice = None if has_reason else _ADVICE.get(error.status)
        return WorkloadApiError(
            f"{where}: {words}" + (f" ({advice})" if advice else ""),
            temporary=error.status not in _FINAL,
            status=error.status,
        )
    if isinstance(error, StreamTerminatedError):
        return WorkloadApiError(f"{where}: the connection was lost")
    if isinstance(error, OSError):
        return WorkloadApiError(f"{where}: cannot connect ({error.strerror or error}); check that the agent is running")
    return WorkloadApiError(f"{where}: the answer can't be read: {error}")


def _is_over(error: BaseException) -> bool:
    """Whether the call's deadline is over. Either end may notice it first: the server then sends a status."""
    if isinstance(error, GRPCError):
        return error.status is Status.DEADLINE_EXCEEDED and not error.message
    return isinstance(error, TimeoutError)
