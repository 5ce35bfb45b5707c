"""What a metric counts each failure of the Workload API as."""

from __future__ import annotations

import errno

import pytest
from google.protobuf.message import DecodeError
from grpclib import GRPCError, Status
from grpclib.exceptions import StreamTerminatedError

from meshtls.errors import LocalIdentityError
from meshtls.observe.metrics.workload_api import IdentityFailure
from meshtls.workload.failures import (
    CALL_FAILURES,
    ExpiredSvidError,
    OtherIdentityError,
    WorkloadApiError,
    failure_of,
    reason_of,
)

_CALLS: list[tuple[Exception, IdentityFailure]] = [
    (FileNotFoundError(errno.ENOENT, "no such file"), IdentityFailure.UNREACHABLE),
    (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), IdentityFailure.UNREACHABLE),
    (TimeoutError(), IdentityFailure.UNREACHABLE),
    (GRPCError(Status.DEADLINE_EXCEEDED), IdentityFailure.UNREACHABLE),
    (StreamTerminatedError("lost"), IdentityFailure.UNREACHABLE),
    (GRPCError(Status.UNAVAILABLE, "the agent is waiting for its entries"), IdentityFailure.NOT_READY),
    (PermissionError(errno.EACCES, "denied"), IdentityFailure.SOCKET_DENIED),
    (GRPCError(Status.PERMISSION_DENIED, "no identity issued"), IdentityFailure.NO_IDENTITY),
    (GRPCError(Status.UNIMPLEMENTED), IdentityFailure.OTHER),
    (DecodeError("no message"), IdentityFailure.OTHER),
]


@pytest.mark.parametrize(("error", "reason"), _CALLS, ids=lambda one: repr(one))
def test_a_failed_call_has_a_reason(error: Exception, reason: IdentityFailure) -> None:
    assert isinstance(error, CALL_FAILURES)
    failure = failure_of(error, "/SpiffeWorkloadAPI/FetchX509SVID", "unix:///a.sock")
    failure.__cause__ = error
    assert reason_of(failure) is reason


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "no answer in time"),
        (GRPCError(Status.DEADLINE_EXCEEDED), "no answer in time"),
        (GRPCError(Status.DEADLINE_EXCEEDED, "the store is slow"), "DEADLINE_EXCEEDED: the store is slow"),
    ],
    ids=["our clock", "the server's clock", "the server's clock, with a reason"],
)
def test_a_call_whose_deadline_is_over_is_told_alike_by_either_end(error: Exception, words: str) -> None:
    failure = failure_of(error, "/SpiffeWorkloadAPI/FetchX509SVID", "unix:///a.sock")
    assert str(failure) == f"Workload API at unix:///a.sock, FetchX509SVID: {words}"
    assert (failure.temporary, failure.status) == (True, Status.DEADLINE_EXCEEDED)


def test_an_answer_that_can_not_be_used_has_a_reason() -> None:
    assert reason_of(ExpiredSvidError("expired")) is IdentityFailure.EXPIRED
    assert reason_of(OtherIdentityError("wanted another")) is IdentityFailure.OTHER_IDENTITY
    assert reason_of(WorkloadApiError("the stream was ended", is_end=True)) is IdentityFailure.UNREACHABLE
    assert reason_of(LocalIdentityError("its key is not that of its certificate")) is IdentityFailure.OTHER
