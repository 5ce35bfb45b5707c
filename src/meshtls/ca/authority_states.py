"""The states of an authority, X.509 or JWT, as a table, and why each other step is refused. Pure.

An authority is in the bundle of its trust domain in every state but REVOKED and EXPIRED.
"""

from __future__ import annotations

from enum import IntEnum

from meshtls.errors import RequestError

__all__ = ["AUTHORITY", "PUBLISHED", "REFUSALS", "AuthorityState", "AuthorityStep", "next_state"]


class AuthorityState(IntEnum):
    """Where an authority is in its life.

    - PREPARED: it is in the bundle, so that everybody trusts it before it signs. It has signed nothing.
    - ACTIVE: it signs. Each server has one of each kind.
    - OLD: it signs no more. It leaves the bundle when the last SVID that it signed has expired.
    - TAINTED: the same, and the holders of its SVIDs replace them now.
    - REVOKED: it is out of the bundle: no peer accepts its SVIDs. Its key is deleted.
    - EXPIRED: it is out of the bundle since none of its SVIDs was valid any more. Its key is deleted.
    """

    PREPARED = 0
    ACTIVE = 1
    OLD = 2
    TAINTED = 3
    REVOKED = 4
    EXPIRED = 5


class AuthorityStep(IntEnum):
    """What moves an authority on. RETIRE: another one was activated in its place, or its key was lost."""

    ACTIVATE = 0
    RETIRE = 1
    TAINT = 2
    REVOKE = 3
    EXPIRE = 4


_S, _T = AuthorityState, AuthorityStep
AUTHORITY: dict[AuthorityState, dict[AuthorityStep, AuthorityState]] = {
    _S.PREPARED: {_T.ACTIVATE: _S.ACTIVE, _T.REVOKE: _S.REVOKED, _T.EXPIRE: _S.EXPIRED},
    _S.ACTIVE: {_T.RETIRE: _S.OLD},
    _S.OLD: {_T.TAINT: _S.TAINTED, _T.REVOKE: _S.REVOKED, _T.EXPIRE: _S.EXPIRED},
    _S.TAINTED: {_T.REVOKE: _S.REVOKED, _T.EXPIRE: _S.EXPIRED},
    _S.REVOKED: {},
    _S.EXPIRED: {},
}
#: The states of the authorities that are in the bundle.
PUBLISHED = frozenset({_S.PREPARED, _S.ACTIVE, _S.OLD, _S.TAINTED})

_UNUSED = "it has signed nothing yet; revoke it if its key is not safe"
_SIGNS = "it is the one that signs; prepare and activate another one first"
_OVER = "it signs no more, and never will again; prepare a new one"
_GONE = "it is out of the bundle already"
#: Why each step that is not in the table is refused.
REFUSALS: dict[AuthorityState, dict[AuthorityStep, str]] = {
    _S.PREPARED: {_T.RETIRE: _UNUSED, _T.TAINT: _UNUSED},
    _S.ACTIVE: {
        _T.ACTIVATE: "it is active already",
        _T.TAINT: _SIGNS,
        _T.REVOKE: _SIGNS,
        _T.EXPIRE: _SIGNS,
    },
    _S.OLD: {_T.ACTIVATE: _OVER, _T.RETIRE: _OVER},
    _S.TAINTED: {_T.ACTIVATE: _OVER, _T.RETIRE: _OVER, _T.TAINT: "it is tainted already"},
    _S.REVOKED: dict.fromkeys(_T, _GONE),
    _S.EXPIRED: dict.fromkeys(_T, _GONE),
}


def next_state(state: AuthorityState, step: AuthorityStep) -> AuthorityState:
    """The state after this step. Raises RequestError, which says why, for a step that is not in the table."""
    found = AUTHORITY[state].get(step)
    if found is None:
        raise RequestError(f"can't {step.name.lower()} it while it is {state.name}: {REFUSALS[state][step]}")
    return found
