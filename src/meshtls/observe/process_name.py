"""Which process answers at an address, so that whoever asks can tell it from another one that has the address. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from meshtls.printable import printable

__all__ = ["ProcessKind", "ProcessName"]


class ProcessKind(Enum):
    """What runs."""

    SIDECAR = "sidecar"
    AGENT = "agent"
    SERVER = "server"


#: The keys of its file by which a process is known: its name, and its identity.
_KEYS = {
    ProcessKind.SIDECAR: ("name", "spiffe_id"),
    ProcessKind.AGENT: ("socket_path", "trust_domain"),
    ProcessKind.SERVER: ("socket_path", "trust_domain"),
}
_KINDS = {kind.value: kind for kind in ProcessKind}


@dataclass(frozen=True, slots=True)
class ProcessName:
    """As the file of the process has it, whether the process has an identity yet or not. ``str`` gives a line of
    printable characters, such as ``sidecar a (spiffe://example.org/a)``.

    - ``name``: a sidecar's name; of an agent or a server the path of its socket. Empty where it is not told.
    - ``identity``: a sidecar's SPIFFE ID; of an agent or a server the trust domain. Empty where it is not told.
    """

    kind: ProcessKind
    name: str
    identity: str

    @classmethod
    def of_line(cls, line: str) -> ProcessName | None:
        """The name in its ``str``; None for any other text."""
        kind, _, rest = line.partition(" ")
        name, separator, end = rest.rpartition(" (")
        identity = end.removesuffix(")")
        if kind not in _KINDS or not separator or not identity or identity == end or not line.isprintable():
            return None
        return cls(_KINDS[kind], name, identity)

    @classmethod
    def of_record(cls, record: Mapping[str, object]) -> ProcessName | None:
        """The name in a ``record``, in which processes of older versions have not every key; None without a kind."""
        kind = _KINDS.get(str(record.get("kind")))
        if kind is None:
            return None
        name, identity = (str(record.get(key) or "") for key in _KEYS[kind])
        return cls(kind, name, identity)

    def record(self) -> dict[str, object]:
        """The name as a record, by the keys of the file."""
        name, identity = _KEYS[self.kind]
        return {"kind": self.kind.value, name: self.name, identity: self.identity}

    def mismatch(self, found: ProcessName, where: str) -> str:
        """Why ``found``, which answered at ``where``, is not this process; empty if it is. What either of them does not
        tell is no difference.
        """
        named = _differ(self.name, found.name) and not self._may_be_same_path(found)
        if self.kind is found.kind and not named and not _differ(self.identity, found.identity):
            return ""
        return (
            f"{where} is answered by {found}; wanted {self}: another process has it, or this one was started with an"
            " older file"
        )

    def _may_be_same_path(self, found: ProcessName) -> bool:
        """Whether one has a relative path, from a directory that is not told, and the other an absolute one."""
        if self.kind is ProcessKind.SIDECAR:
            return False
        return self.name.startswith("/") is not found.name.startswith("/")

    def __str__(self) -> str:
        return printable(f"{self.kind.value} {self.name} ({self.identity})")


def _differ(one: str, other: str) -> bool:
    return bool(one and other and printable(one) != printable(other))
