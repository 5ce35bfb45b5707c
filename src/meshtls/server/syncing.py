"""What an agent has to hear, given what changed since it last heard. Pure.

A changed entry that nothing hangs below concerns only itself: it is told, or taken back. One that carries others (an
alias, an intermediate step) may have moved a whole branch, so the agent is told everything that it may serve now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshtls.registration import Entry
from meshtls.server.entries import EntryIndex, Node
from meshtls.server.store.changes import Change, ChangeKind
from meshtls.spiffeid import SpiffeId

__all__ = ["Told", "entries_to_tell", "everything"]


@dataclass(frozen=True, slots=True)
class Told:
    """``whole``: ``entries`` are all there are, forget others. Else they are the new and changed ones, and
    ``removed`` are ids of entries that the agent may not serve (any more; some it may never have heard of).
    """

    whole: bool
    entries: tuple[Entry, ...]
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.whole or self.entries or self.removed)


def everything(index: EntryIndex, node: Node) -> Told:
    """All that this node may serve."""
    return Told(True, tuple(index.reachable(node).values()))


def entries_to_tell(index: EntryIndex, node: Node, changes: Sequence[Change]) -> Told:
    """What of these changes this node has to hear, by the index as it is after them."""
    changed = [change for change in changes if change.kind is ChangeKind.ENTRY]
    mine = str(node.spiffe_id)
    attested_anew = any(change.kind is ChangeKind.AGENT and change.key == mine for change in changes)
    if attested_anew or any(_carries(index, change) for change in changed):
        return everything(index, node)
    keys = list(dict.fromkeys(change.key for change in changed))
    present = {key: entry for key in keys if (entry := index.get(key)) and index.is_reachable(entry, node)}
    return Told(False, tuple(present.values()), tuple(key for key in keys if key not in present))


def _carries(index: EntryIndex, change: Change) -> bool:
    return index.has_children(SpiffeId.parse(change.subject))
