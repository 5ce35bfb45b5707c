"""What the dashboard knows of a mesh: the newest pages of each process, and what it has followed. Bounded. Pure.

A view (``dashboard/views``) reads it. Each view has a version, which grows with each change that the view shows: so a
browser asks again for what has changed, and for nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from meshtls.dashboard.connections import Connections
from meshtls.dashboard.denials import Denials, DryRuns
from meshtls.dashboard.rotations import Rotations

__all__ = ["PAGES_OF", "Kind", "Model", "Process", "View"]

Record = Mapping[str, Any]
#: Members that change with each answer, and tell nothing new.
_VOLATILE = frozenset({"seconds_left", "now", "uptime_seconds", "seconds", "total_ms"})


class View(Enum):
    """The pages of the dashboard; the values are their paths."""

    MESH = "mesh"
    IDENTITIES = "identities"
    CONNECTIONS = "connections"
    DENIALS = "denials"
    POLICIES = "policies"
    TRUST = "trust"
    LEARN = "learn"
    PROCESSES = "processes"


class Kind(Enum):
    """What answers, as ``/server_info`` says."""

    SIDECAR = "sidecar"
    AGENT = "agent"
    SERVER = "server"


#: The pages that are asked for again and again, and the views that show each.
PAGES_OF: dict[Kind, dict[str, tuple[View, ...]]] = {
    Kind.SIDECAR: {
        "/ready": (View.PROCESSES,),
        "/certs": (View.IDENTITIES, View.TRUST, View.MESH),
        "/graph": (View.MESH,),
        "/policies": (View.POLICIES,),
        "/logging": (View.PROCESSES,),
        "/handshakes": (View.LEARN,),
    },
    Kind.AGENT: {
        "/ready": (View.PROCESSES,),
        "/certs": (View.IDENTITIES, View.TRUST),
        "/policies": (View.POLICIES, View.IDENTITIES),
        "/logging": (View.PROCESSES,),
    },
    Kind.SERVER: {
        "/ready": (View.PROCESSES,),
        "/certs": (View.IDENTITIES, View.TRUST),
        "/routes": (View.TRUST,),
        "/logging": (View.PROCESSES,),
    },
}


@dataclass(slots=True)
class Process:
    """One process. ``name`` is its own, ``error`` why it did not answer most recently, ``untold`` why its events are
    not followed; empty where all is well. ``lost`` counts the events that it dropped.
    """

    address: str
    kind: Kind | None = None
    error: str = "not asked yet"
    untold: str = ""
    lost: int = 0
    info: Record = field(default_factory=dict)
    pages: dict[str, Record] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.info.get("name") or self.info.get("server_id") or self.info.get("spiffe_id") or self.address)


class Model:
    """The collector writes it, by the address of each process; views read it."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self.processes = {one: Process(one) for one in addresses}
        self.connections = Connections()
        self.denials = Denials()
        self.dry_runs = DryRuns()
        self.rotations = Rotations()
        #: What the server's API says of authorities, federation and the log: None where it is not asked.
        self.authority: Record | None = None
        self.versions: Counter[View] = Counter(dict.fromkeys(View, 1))

    def answered(self, address: str, kind: Kind, info: Record, pages: Mapping[str, Record], now: datetime) -> None:
        """A look at a process: ``/server_info``, and its other pages by their paths."""
        process = self.processes[address]
        if process.error or _stable(info) != _stable(process.info):
            self._changed(View.PROCESSES)
        process.kind, process.info, process.error = kind, info, ""
        for path, record in pages.items():
            if _stable(process.pages.get(path)) != _stable(record):
                self._changed(*PAGES_OF[kind].get(path, ()))
            process.pages[path] = record
        if self.rotations.take(address, list(_svids(kind, pages.get("/certs", {}))), now):
            self._changed(View.IDENTITIES)

    def failed(self, address: str, why: str) -> None:
        """Note that a process did not answer. What it said before stays, and is shown as old."""
        process = self.processes[address]
        if process.error != why:
            process.error = why
            self.connections.gone(address)
            self._changed(*View)

    def untold(self, address: str, why: str) -> None:
        """Its events are not followed, and why; empty where they are."""
        if self.processes[address].untold != why:
            self.processes[address].untold = why
            self._changed(View.PROCESSES)

    def live(self, address: str, lines: Iterable[Record]) -> None:
        """All connections that live in this process."""
        self.connections.live(address, lines)
        self._changed(View.CONNECTIONS, View.MESH)

    def ended(self, address: str, lines: Iterable[Record]) -> None:
        """Connections that ended: those that are known already change nothing."""
        for line in lines:
            if self.connections.ended(address, line):
                self._told(address, line)

    def requests(self, address: str, lines: Iterable[Record]) -> None:
        """The same of requests."""
        for line in lines:
            if self.connections.request(address, line):
                self._told(address, line)

    def event(self, address: str, event: Record) -> None:
        """A record of ``/tap``."""
        match event.get("event"):
            case "opened":
                self.connections.opened(address, event)
                self._changed(View.CONNECTIONS)
            case "ended":
                self.connections.closed(address, int(event.get("number") or 0))
                self.ended(address, [event])
            case "request":
                self.requests(address, [event])
            case "lost":
                self.processes[address].lost += int(event.get("count") or 0)
                self._changed(View.PROCESSES)

    def governed(self, record: Record) -> None:
        """What the server's API says."""
        if record != self.authority:
            self.authority = record
            self._changed(View.TRUST)

    @property
    def sidecars(self) -> Iterator[Process]:
        return (one for one in self.processes.values() if one.kind is Kind.SIDECAR)

    def _told(self, address: str, line: Record) -> None:
        self._changed(View.CONNECTIONS)
        if line.get("verdict") == "denied":
            self.denials.take(address, line)
            self._changed(View.DENIALS)
        if line.get("shadow"):
            self.dry_runs.take(line)
            self._changed(View.POLICIES)

    def _changed(self, *views: View) -> None:
        for one in views:
            self.versions[one] += 1

    def __repr__(self) -> str:
        failed = sum(bool(one.error) for one in self.processes.values())
        return f"<Model [{len(self.processes)} processes, {failed} failed, {len(self.connections)} connections]>"


def _svids(kind: Kind, certs: Record) -> Iterator[tuple[str, Record]]:
    """The SVIDs of ``/certs``, each with whose it is."""
    own = certs if kind is Kind.SIDECAR else certs.get(kind.value, {})
    for one in own.get("svids", ()):
        yield kind.value, one
    for one in certs.get("workloads", ()):
        yield "workload", one


def _stable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _stable(one) for name, one in value.items() if name not in _VOLATILE}
    return [_stable(one) for one in value] if isinstance(value, list) else value
