"""Which attested agents can serve an entry, and why none can. Pure.

An entry takes effect only if the whole path exists: an agent has attested, the entry's parent leads to it, and an
attestor produces the entry's selectors. The server accepts an entry without that, since the agent may attest later, but
an operator needs to know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from meshtls.registration import AgentRecord, Entry, Selector, is_agent_id, server_id
from meshtls.server.entries import EntryIndex, Node
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["NODE_SELECTORS", "WORKLOAD_SELECTORS", "Reach", "unproduced"]

#: The selectors of the agent's workload attestors: each type with the names that a value begins with.
WORKLOAD_SELECTORS: Mapping[str, tuple[str, ...]] = {
    "unix": (
        "uid",
        "user",
        "gid",
        "group",
        "supplementary_gid",
        "supplementary_group",
        "path",
        "sha256",
    ),
    "docker": ("container_id",),
    "k8s": ("pod-uid", "container_id"),
}
#: The same for the server's node attestors, whose selectors a node alias matches.
NODE_SELECTORS: Mapping[str, tuple[str, ...]] = {"x509pop": ("subject:cn", "ca:fingerprint")}
_DECIMAL = (re.compile(r"\A(?:0|[1-9][0-9]{0,9})"), "a decimal number")
_DIGEST = (re.compile(r"\A[0-9a-f]{64}"), "64 digits of lower-case hexadecimal")
#: The form of a value after its name, unless it is free text: a pattern, and the same in words.
_FORMS: Mapping[tuple[str, str], tuple[re.Pattern[str], str]] = {
    ("unix", "uid"): _DECIMAL,
    ("unix", "gid"): _DECIMAL,
    ("unix", "supplementary_gid"): _DECIMAL,
    ("unix", "sha256"): _DIGEST,
    ("unix", "path"): (re.compile(r"\A/.*", re.DOTALL), "an absolute path"),
    ("docker", "container_id"): _DIGEST,
    ("k8s", "container_id"): _DIGEST,
}
#: The type of the only selector of an alias that `token generate --spiffe-id` creates.
_OWN_ALIAS = "spiffe_id"


class Reach:
    """A snapshot of all agents and entries."""

    def __init__(
        self, trust_domain: TrustDomain, entries: Iterable[Entry], agents: Iterable[AgentRecord], now: datetime
    ) -> None:
        self._server = server_id(trust_domain)
        self._entries = {entry.id: entry for entry in entries}
        self._by_spiffe_id: dict[SpiffeId, list[Entry]] = {}
        for entry in self._entries.values():
            self._by_spiffe_id.setdefault(entry.spiffe_id, []).append(entry)
        self._agents = {agent.spiffe_id: agent for agent in agents}
        self._now = now
        self._serving = {key: agent for key, agent in self._agents.items() if self._unable(key) is None}
        self._served_by: dict[str, list[SpiffeId]] = {}
        index = EntryIndex(trust_domain, self._entries.values())
        for key, agent in self._serving.items():
            for entry_id in index.reachable(Node(key, frozenset(agent.selectors))):
                self._served_by.setdefault(entry_id, []).append(key)

    def agents_of(self, entry_id: str) -> tuple[SpiffeId, ...]:
        """The agents that may serve this entry now."""
        return tuple(sorted(self._served_by.get(entry_id, ())))

    def obstacle(self, entry: Entry) -> str | None:
        """The reason that no agent can serve the entry; None if one can."""
        if self._served_by.get(entry.id):
            return None
        return self._obstacle(entry, frozenset())

    def _obstacle(self, entry: Entry, below: frozenset[SpiffeId]) -> str:
        parent = entry.parent_id
        if parent == self._server:
            return f"no attested agent has {' and '.join(map(str, entry.selectors))}"
        if is_agent_id(parent):
            return self._unable(parent) or f"agent {parent} does not reach it"
        above = self._by_spiffe_id.get(parent, [])
        if not above:
            return f"no agent and no entry has the ID of its parent {parent}"
        if parent in below:
            return f"its parents lead back to {parent}"
        return self._obstacle(above[0], below | {parent})

    def _unable(self, agent_id: SpiffeId) -> str | None:
        agent = self._agents.get(agent_id)
        if agent is None:
            return f"no agent has attested as {agent_id}"
        if agent.banned:
            return f"agent {agent_id} is banned"
        if agent.not_after <= self._now:
            return f"the SVID of agent {agent_id} expired at {agent.not_after:%Y-%m-%dT%H:%M:%SZ}"
        return None


def unproduced(entry: Entry, trust_domain: TrustDomain) -> Iterator[str]:
    """For each selector of the entry that no attestor produces: the selector, and the known ones."""
    alias = entry.parent_id == server_id(trust_domain)
    known = NODE_SELECTORS if alias else WORKLOAD_SELECTORS
    for selector in entry.selectors:
        if selector.type == _OWN_ALIAS and is_agent_id(entry.parent_id):
            continue
        if not any(selector.value.startswith(f"{name}:") for name in known.get(selector.type, ())):
            attestor = "node attestor" if alias else "workload attestor"
            listed = ", ".join(f"{kind}:{name}" for kind, names in known.items() for name in names)
            yield f"no {attestor} produces the selector {selector}; known: {listed}"
        elif (wanted := _misfit(selector)) is not None:
            yield f"no attestor produces the selector {selector}: wanted {wanted}"


def _misfit(selector: Selector) -> str | None:
    """The wanted form of the selector's value, if it has another one."""
    name, _, value = selector.value.partition(":")
    pattern, words = _FORMS.get((selector.type, name), (None, ""))
    return None if pattern is None or pattern.fullmatch(value) else f"{words} behind '{selector.type}:{name}:'"
