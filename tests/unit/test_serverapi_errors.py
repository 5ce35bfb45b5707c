"""The exceptions of the server API's calls are translated to our errors."""

from __future__ import annotations

import errno

import pytest
from grpclib import GRPCError, Status

from meshtls.errors import LocalIdentityError
from meshtls.serverapi.channels import our_errors
from meshtls.tls.failures import NoIdentityError


def test_a_channel_without_an_identity_of_its_own_does_not_blame_the_server() -> None:
    with pytest.raises(LocalIdentityError, match="^the SVID of this agent has expired$"), our_errors():
        raise NoIdentityError(LocalIdentityError("the SVID of this agent has expired"))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "the server can't be reached: no answer in time"),
        (GRPCError(Status.DEADLINE_EXCEEDED), "the server can't be reached: no answer in time"),
        (TimeoutError(errno.ETIMEDOUT, "timed out"), "the server can't be reached: Connection timed out"),
        (GRPCError(Status.DEADLINE_EXCEEDED, "the store is slow"), "the store is slow"),
    ],
    ids=["our clock", "the server's clock", "TCP's clock", "the server's clock, with a reason"],
)
def test_a_call_whose_deadline_is_over_is_told_alike_by_either_end(error: Exception, words: str) -> None:
    with pytest.raises(LocalIdentityError) as raised, our_errors():
        raise error
    assert str(raised.value) == words
