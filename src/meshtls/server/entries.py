"""Which entries an agent may serve, and which agents a change concerns. Pure.

An agent may serve an entry that is reachable from it: its parent is the agent's own ID, an alias that the agent's
selectors match (an entry whose parent is the server), or the ID of another reachable entry. The index leads from parent
to children and from child to parents, so the cost of a query grows with the agent's own entries or with the depth of
the tree, never with the number of all entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from meshtls.registration import AgentRecord, Entry, Selector, server_id
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["EntryIndex", "Node"]


@dataclass(frozen=True, slots=True)
class Node:
    """The part of an agent's record that decides which entries it may serve."""

    spiffe_id: SpiffeId
    selectors: frozenset[Selector] = frozenset()

    @classmethod
    def of(cls, agent: AgentRecord) -> Node:
        return cls(agent.spiffe_id, frozenset(agent.selectors))


class EntryIndex:
    """All entries, by id, by parent and by SPIFFE ID."""

    def __init__(self, trust_domain: TrustDomain, entries: Iterable[Entry] = ()) -> None:
        self._server = server_id(trust_domain)
        self._by_id: dict[str, Entry] = {}
        self._by_parent: dict[SpiffeId, dict[str, Entry]] = {}
        self._by_spiffe_id: dict[SpiffeId, dict[str, Entry]] = {}
        for entry in entries:
            self.put(entry)

    def put(self, entry: Entry) -> None:
        """Add this entry, or replace the one with its id."""
        self.remove(entry.id)
        self._by_id[entry.id] = entry
        self._by_parent.setdefault(entry.parent_id, {})[entry.id] = entry
        self._by_spiffe_id.setdefault(entry.spiffe_id, {})[entry.id] = entry

    def remove(self, key: str) -> None:
        """Remove the entry with this id, if there is one."""
        entry = self._by_id.pop(key, None)
        if entry is not None:
            _drop(self._by_parent, entry.parent_id, key)
            _drop(self._by_spiffe_id, entry.spiffe_id, key)

    def get(self, key: str) -> Entry | None:
        return self._by_id.get(key)

    def has_children(self, spiffe_id: SpiffeId) -> bool:
        """Whether an entry has this ID as parent."""
        return spiffe_id in self._by_parent

    def is_admin(self, spiffe_id: SpiffeId) -> bool:
        """Whether an entry lets this ID administer the server."""
        return any(entry.admin for entry in self._by_spiffe_id.get(spiffe_id, {}).values())

    def downstream(self, spiffe_id: SpiffeId) -> Entry | None:
        """The entry that lets this ID run a server below this one, if there is one."""
        return next((entry for entry in self._by_spiffe_id.get(spiffe_id, {}).values() if entry.downstream), None)

    def reachable(self, node: Node) -> dict[str, Entry]:
        """Every entry that this node may serve, by id."""
        found: dict[str, Entry] = {}
        seen = set(self._own_ids(node))
        waiting = list(seen)
        while waiting:
            for key, entry in self._by_parent.get(waiting.pop(), {}).items():
                found[key] = entry
                if entry.spiffe_id not in seen:
                    seen.add(entry.spiffe_id)
                    waiting.append(entry.spiffe_id)
        return found

    def is_reachable(self, entry: Entry, node: Node) -> bool:
        """Whether this node may serve this entry."""
        mine = set(self._own_ids(node))
        return any(parent in mine for parent in self._ancestors(entry.parent_id))

    def affected(self, entry: Entry, nodes: Mapping[SpiffeId, Node]) -> set[SpiffeId]:
        """The nodes that a change of this entry may affect: its ancestors, by ID or by an alias."""
        above = set(self._ancestors(entry.parent_id))
        found = above & nodes.keys()
        aliases = [one for one in self._by_parent.get(self._server, {}).values() if one.spiffe_id in above]
        if entry.parent_id == self._server:
            aliases.append(entry)
        if aliases:
            found |= {key for key, node in nodes.items() if any(one.matches(node.selectors) for one in aliases)}
        return found

    def __len__(self) -> int:
        return len(self._by_id)

    def __repr__(self) -> str:
        return f"<EntryIndex {len(self)} entries below {len(self._by_parent)} parents>"

    def _own_ids(self, node: Node) -> Iterator[SpiffeId]:
        yield node.spiffe_id
        for alias in self._by_parent.get(self._server, {}).values():
            if alias.matches(node.selectors):
                yield alias.spiffe_id

    def _ancestors(self, start: SpiffeId) -> Iterator[SpiffeId]:
        seen = {start}
        waiting = [start]
        while waiting:
            spiffe_id = waiting.pop()
            yield spiffe_id
            for entry in self._by_spiffe_id.get(spiffe_id, {}).values():
                if entry.parent_id not in seen:
                    seen.add(entry.parent_id)
                    waiting.append(entry.parent_id)


def _drop(index: dict[SpiffeId, dict[str, Entry]], spiffe_id: SpiffeId, key: str) -> None:
    del index[spiffe_id][key]
    if not index[spiffe_id]:
        del index[spiffe_id]
