"""Errors go from process to process (multiprocessing, concurrent.futures) and are copied: nothing of them is lost."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
from grpclib import Status

from meshtls import errors
from meshtls.errors import LocalIdentityError, MeshtlsError, NotAuthorizedError
from meshtls.lazy_text import LazyText
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.failures import NoIdentityError, RefusedHandshake
from meshtls.workload.failures import WorkloadApiError
from tests.support.certs import ca, leaf

WEB = "spiffe://a.test/web"
PEER = VerifiedPeer(SpiffeId.parse(WEB), (leaf(ca(), WEB).certificate,))
MESSAGE = "what was wanted, what came, what to do"
PUBLIC: list[type[MeshtlsError]] = [getattr(errors, name) for name in errors.__all__]
ERRORS: list[BaseException] = [
    *(kind(MESSAGE) for kind in PUBLIC),
    NotAuthorizedError(MESSAGE, PEER),
    RefusedHandshake(NotAuthorizedError(MESSAGE, PEER)),
    NoIdentityError(LocalIdentityError(MESSAGE)),
    WorkloadApiError(MESSAGE),
    WorkloadApiError(MESSAGE, temporary=False, status=Status.UNIMPLEMENTED),
]
Way = Callable[[BaseException], BaseException]


def pickled(protocol: int) -> Way:
    return lambda error: pickle.loads(pickle.dumps(error, protocol))  # noqa: S301  # ours


WAYS = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle 2": pickled(2), "pickle 5": pickled(5)}


def told(error: BaseException) -> tuple[object, ...]:
    """All that one can ask it, where what it holds is compared by what it says."""
    return type(error), str(error), error.args, {name: str(value) for name, value in vars(error).items()}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_a_pickled_error_keeps_its_message(way: Way, error: BaseException) -> None:
    assert told(way(error)) == told(error)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_a_copied_error_has_the_text_that_was_not_made_yet(way: Way) -> None:
    made: list[str] = []

    def make() -> str:
        made.append("made")
        return MESSAGE

    error = NotAuthorizedError(LazyText(make), PEER)
    assert made == []
    copied = way(error)
    assert (str(copied), str(error), made) == (MESSAGE, MESSAGE, ["made"])
