"""Seven bugs that the simulation has to find, each planted in the program for the time of a run.

Each is a fault that the program could have had, or that its design is there to prevent.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from meshtls.ca import profile
from meshtls.ca.authority_states import AuthorityStep
from meshtls.ca.tlog.checkpoint import Checkpoint
from meshtls.ca.tlog.note import sign_note
from meshtls.server import authorities, federating
from meshtls.server.ledger import Ledger
from meshtls.server.store import transparency
from meshtls.server.transparency import TransparencyLog
from meshtls.server.upstream import following, rotation
from meshtls.svid.verifier import CurrentVerifier
from tests.simulation.loop import current_process

__all__ = ["PLANTS", "planted"]


async def _no_agent(*_: object) -> list[object]:
    return []


def _impatient() -> list[tuple[Any, str, Any]]:
    """A new authority signs before the agents have it."""

    class Agents:
        without_bundle = staticmethod(_no_agent)

    return [(authorities, "agents", Agents), (authorities.Authorities, "_keep", _activate_at_once)]


async def _activate_at_once(self: Any, kind: str, mine: Any, now: Any) -> float:
    prepared = next((one for one in mine if one.state.name == "PREPARED"), None)
    if prepared is None:
        return await _KEEP(self, kind, mine, now)
    await self._activate(kind, prepared.id, force=True)
    return 1.0


_KEEP = authorities.Authorities._keep


def _unrecorded() -> list[tuple[Any, str, Any]]:
    """An SVID leaves the server before it is on record; the record follows."""

    async def commit(self: Ledger, act: Any, issued: Any) -> None:
        current_process().spawn(_COMMIT(self, act, issued))

    return [(Ledger, "commit", commit)]


_COMMIT = Ledger.commit


def _hasty_signer() -> list[tuple[Any, str, Any]]:
    """The log is signed as it will be once the open transaction is committed."""

    async def append(self: TransparencyLog, tx: Any, entries: Any) -> int:
        first = await _APPEND(self, tx, entries)
        state = await transparency.read_state(tx)
        present = Checkpoint(state.origin, state.frontier.size, state.frontier.root)
        self._guard.store(str(sign_note(present.text, state.origin, self._signer)))
        return first

    return [(TransparencyLog, "append", append)]


_APPEND = TransparencyLog.append


def _stale_verifier() -> list[tuple[Any, str, Any]]:
    """A verifier keeps its verdicts when what was revoked changes."""

    def follow(self: CurrentVerifier, context: Any) -> Any:
        present = self._verifier
        if present is not None and present.trust.bundles == context.bundles:
            return present
        return _FOLLOW(self, context)

    return [(CurrentVerifier, "follow", follow)]


_FOLLOW = CurrentVerifier.follow


def _counted_serials() -> list[tuple[Any, str, Any]]:
    """Serial numbers are counted, from the start of the process on."""
    counts: dict[Any, Iterator[int]] = {}
    return [(profile, "new_serial", lambda: next(counts.setdefault(current_process(), itertools.count(1))))]


def _deaf() -> list[tuple[Any, str, Any]]:
    """A server keeps a root that the authority above it has revoked."""

    def lessons(*args: Any) -> Iterator[Any]:
        return (one for one in _LESSONS(*args) if AuthorityStep.REVOKE not in one.steps)

    return [(rotation, "lessons", lessons)]


_LESSONS = following.lessons


def _forgetful() -> list[tuple[Any, str, Any]]:
    """An older bundle of another trust domain replaces the present one, and brings back what was revoked."""
    return [(federating, "check_sequence", lambda stored, fetched: None)]


#: Each bug by name: what it replaces.
PLANTS: dict[str, Callable[[], list[tuple[Any, str, Any]]]] = {
    "an authority signs before the agents have it": _impatient,
    "an SVID leaves before it is on record": _unrecorded,
    "the log is signed before the commit": _hasty_signer,
    "a verifier keeps its verdicts": _stale_verifier,
    "serials are counted": _counted_serials,
    "a root that was revoked above stays": _deaf,
    "an older bundle of a partner is taken": _forgetful,
}


@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    """The bug is in the program while the body runs."""
    edits = PLANTS[name]()
    kept = [(where, what, getattr(where, what)) for where, what, _ in edits]
    for where, what, value in edits:
        setattr(where, what, value)
    try:
        yield
    finally:
        for where, what, value in kept:
            setattr(where, what, value)
