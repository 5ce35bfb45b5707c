"""Which authority a command means, and whether its step may be taken yet; told in full where it may not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from meshtls.ca.authority_states import AuthorityState, AuthorityStep, next_state
from meshtls.errors import NotFoundError, RequestError
from meshtls.scalars import count_of
from meshtls.server.store.authorities import AuthorityRecord
from meshtls.serverapi.values import Holders
from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import format_moment

__all__ = ["check_confirmed", "check_revocable", "one_of", "revocable_at", "told_of", "with_id"]

#: How long after a taint its authority may be revoked: workloads have replaced what their agents have by then.
_SETTLED = timedelta(seconds=10)
_NAMED = 5
#: What to do where no authority can take the step. Without a name, none but these steps is asked for.
_WITHOUT = {
    AuthorityStep.ACTIVATE: "; prepare one first",
    AuthorityStep.TAINT: " that is old; replace the one that signs first: prepare another one and activate it",
    AuthorityStep.REVOKE: (
        " that is old or tainted; to replace the one that signs, prepare another one and activate it; a prepared one is"
        " revoked by its ID"
    ),
}


def one_of(records: Sequence[AuthorityRecord], wanted: str, kind: str, step: AuthorityStep) -> AuthorityRecord:
    """The record whose id begins with ``wanted``; without it, the only one that can take this step."""
    name = "JWT" if kind == "jwt" else "X.509"
    if wanted:
        found = with_id(records, wanted)
        if len(found) != 1:
            what = "no" if not found else "more than one"
            raise NotFoundError(
                f"{name} authority {wanted}: {what} authority has this id; see `meshtls authority show`"
            )
        try:
            next_state(found[0].state, step)
        except RequestError as error:
            raise RequestError(f"{found[0]}: {error}") from error
        return found[0]
    able = [one for one in records if _may_be_meant(one, step)]
    if len(able) != 1:
        wanted_one = f"wanted one {name} authority to {step.name.lower()}, found"
        if able:
            ids = _first_of([one.id for one in able])
            raise NotFoundError(f"{wanted_one} {len(able)}: {ids}; name one of them by its ID, or how that begins")
        raise NotFoundError(f"{wanted_one} none{_WITHOUT[step]}")
    return able[0]


def with_id(records: Sequence[AuthorityRecord], wanted: str) -> list[AuthorityRecord]:
    """The records with this id or, if none has it, those whose id begins with it: a server below this one may publish
    a key whose id continues another one's.
    """
    exact = [one for one in records if one.id == wanted]
    return exact or [one for one in records if one.id.startswith(wanted)]


def _may_be_meant(record: AuthorityRecord, step: AuthorityStep) -> bool:
    # A prepared one is revoked by its name only: it is the next to sign.
    if step is AuthorityStep.REVOKE:
        return record.state in (AuthorityState.OLD, AuthorityState.TAINTED)
    try:
        next_state(record.state, step)
    except RequestError:
        return False
    return True


def check_confirmed(record: AuthorityRecord, without: Sequence[SpiffeId]) -> None:
    """Raises RequestError for a prepared authority while these agents have not confirmed the bundle with it."""
    if without:
        raise RequestError(
            f"can't activate {record}: {told_of(without)} not confirmed the bundle with it yet, and would refuse what"
            " it signs; wait, evict them, or give --force"
        )


def check_revocable(record: AuthorityRecord, held: Sequence[Holders], now: datetime) -> None:
    """Raises RequestError while SVIDs of these holders hang on it, or workloads may still use the ones before."""
    if held:
        count = sum(one.count for one in held)
        in_use = f"{count_of(count, 'SVID')} in use {'hangs' if count == 1 else 'hang'}"
        names = [str(one.agent_id) if one.agent_id else "no agent (minted, or the server's own)" for one in held]
        until = max(one.until for one in held)
        raise RequestError(
            f"can't revoke {record}: {in_use} on it, of {_first_of(names)};"
            f" taint it and wait until they are replaced, or until {format_moment(until)}, or give --force"
        )
    if record.state is AuthorityState.TAINTED and now < record.changed_at + _SETTLED:
        left = (record.changed_at + _SETTLED - now).total_seconds()
        raise RequestError(
            f"can't revoke {record}: workloads are still replacing its SVIDs; wait {left:.0f} s, or give --force"
        )


def revocable_at(record: AuthorityRecord, held: Sequence[Holders], now: datetime) -> datetime | None:
    """When ``check_revocable`` will pass at the latest; None for an authority that is not to be revoked next."""
    if record.state not in (AuthorityState.OLD, AuthorityState.TAINTED):
        return None
    settled = record.changed_at + _SETTLED if record.state is AuthorityState.TAINTED else now
    return max([now, settled, *(one.until for one in held)])


def told_of(without: Sequence[SpiffeId]) -> str:
    """The subject of a sentence about agents, with its "has" or "have"."""
    names = _first_of(list(map(str, without)))
    return f"agent {names} has" if len(without) == 1 else f"{len(without)} agents ({names}) have"


def _first_of(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
