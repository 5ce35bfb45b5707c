"""The next update for an agent, given the changes since its last one. Pure.

A changed entry without children affects only itself: it is sent, or its id is sent as removed. The change of an entry
with children (an alias, an intermediate) may have moved a whole branch, so the agent is sent everything that it may
serve now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshtls.registration import Entry
from meshtls.server.entries import EntryIndex, Node
from meshtls.server.store.changes import Change, ChangeKind
from meshtls.spiffeid import SpiffeId

__all__ = ["Update", "full_update", "update_for"]


@dataclass(frozen=True, slots=True)
class Update:
    """With ``whole``, ``entries`` are all that the agent may serve. Otherwise they are the new and changed ones, and
    ``removed`` are ids of entries that it may not serve; it need not have known all of them.
    """

    whole: bool
    entries: tuple[Entry, ...]
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.whole or self.entries or self.removed)


def full_update(index: EntryIndex, node: Node) -> Update:
    """Every entry that this node may serve."""
    return Update(True, tuple(index.reachable(node).values()))


def update_for(index: EntryIndex, node: Node, changes: Sequence[Change]) -> Update:
    """The update for this node after these changes, which ``index`` has applied."""
    changed = [change for change in changes if change.kind is ChangeKind.ENTRY]
    mine = str(node.spiffe_id)
    reattested = any(change.kind is ChangeKind.AGENT and change.key == mine for change in changes)
    if reattested or any(index.has_children(SpiffeId.parse(change.subject)) for change in changed):
        return full_update(index, node)
    keys = list(dict.fromkeys(change.key for change in changed))
    present = {key: entry for key in keys if (entry := index.get(key)) and index.is_reachable(entry, node)}
    return Update(False, tuple(present.values()), tuple(key for key in keys if key not in present))
