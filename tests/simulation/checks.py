"""What must never happen, whatever is broken: the invariants of a run.

Each raises ViolationError where it is broken. They read what the machines hold and what the store's file has; the
program's own caches and verdicts are only compared with that.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from meshtls.ca.tlog.checkpoint import Checkpoint
from meshtls.ca.tlog.frontier import Frontier
from meshtls.ca.tlog.hashing import leaf_hash
from meshtls.ca.tlog.leaf import Leaf
from meshtls.server.signing import Signed
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer
from meshtls.svid.x509 import format_serial, key_id_of, parse_chain
from tests.simulation.disk import StoreFile

__all__ = ["BOUND", "FOLLOWED", "Checks", "ViolationError"]

#: Seconds after which a revocation, and a new bundle, has reached everybody who was connected all that time.
BOUND = 6.0

#: Seconds after which the servers have followed a revocation above: a look, a new CA, the agents' patience for its
#: root, and the way to the workloads.
FOLLOWED = 30.0


class ViolationError(Exception):
    """An invariant is broken."""


@dataclass(frozen=True, slots=True)
class _Svid:
    server: str
    authority: str
    fingerprint: str


class Checks:
    """``now()`` is the true time in seconds."""

    def __init__(self, store: StoreFile, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._svids: dict[str, _Svid] = {}
        self._certificates: dict[int, str] = {}
        self._checkpoints: dict[tuple[str, int], bytes] = {}
        self._left: set[str] = set()
        self.revoked: dict[str, float] = {}
        self.revoked_authorities: dict[str, float] = {}
        self.blocked: dict[SpiffeId, float] = {}
        self.published: dict[str, float] = {}

    def signed(self, server: str, made: Signed) -> None:
        """No serial twice, whoever signed."""
        for certificate in made.chain:
            fingerprint = hashlib.sha256(certificate.tbs_certificate_bytes).hexdigest()
            if self._certificates.setdefault(certificate.serial_number, fingerprint) != fingerprint:
                raise ViolationError(f"serial {format_serial(certificate)} was given twice, now by {server}")
        record = made.record
        self._svids[record.serial] = _Svid(
            server, record.authority or "", self._certificates[made.chain[0].serial_number]
        )

    def issuer_of(self, serial: str) -> tuple[str, str]:
        """The server and the authority that signed this SVID. A serial that nobody signed is a violation."""
        found = self._svids.get(serial)
        if found is None:
            raise ViolationError(f"SVID {serial} was signed by no server")
        return found.server, found.authority

    def left_server(self, serial: str) -> None:
        """An SVID that has left its server is on record and in the log."""
        if serial in self._left:
            return
        self._left.add(serial)
        rows = self._store.rows("SELECT log_index FROM issuances WHERE serial = ?", serial)
        if not rows or rows[0][0] is None:
            raise ViolationError(f"SVID {serial} has left its server, and is not on record")
        [(entry,)] = self._store.rows("SELECT entry FROM log_leaves WHERE number = ?", rows[0][0]) or [(None,)]
        if entry is None or Leaf.parse(entry).serial != serial:
            raise ViolationError(f"SVID {serial} has left its server, and leaf {rows[0][0]} of the log is another one")

    def checkpoint(self, signed: Checkpoint) -> None:
        """Of one log there is one tree of each size."""
        root = self._checkpoints.setdefault((signed.origin, signed.size), signed.root)
        if root != signed.root:
            raise ViolationError(f"the log forked: two trees of {signed.size} leaves were signed")

    def log(self) -> int:
        """Each signed tree is the beginning of the present log; returns the log's size."""
        tree, roots = Frontier(), {0: Frontier().root}
        for number, entry in self._store.rows("SELECT number, entry FROM log_leaves ORDER BY number"):
            if number != tree.size:
                raise ViolationError(f"leaf {tree.size} of the log is missing")
            tree, _ = tree.append([leaf_hash(entry)])
            roots[tree.size] = tree.root
        for (_, size), root in self._checkpoints.items():
            if roots.get(size) != root:
                raise ViolationError(
                    f"the log forked: it has {tree.size} leaves, which do not continue the signed {size}"
                )
        return tree.size

    def look(self) -> None:
        """Note what the store says was revoked and published, and when that was first seen."""
        now, rows = self._now(), self._store.rows
        serials = [
            row[0] for row in rows("SELECT serial FROM issuances WHERE revoked_at IS NOT NULL AND kind = 'x509'")
        ]
        _note(self.revoked, serials, now)
        found = rows("SELECT name, der, state FROM authorities WHERE kind = 'x509'")
        ids = {name: _authority_id(der) for name, der, _ in found}
        gone = [ids[name] for name, _, state in found if state == "REVOKED"]
        self.revoked_authorities |= dict.fromkeys((one for one in gone if one not in self.revoked_authorities), now)
        for name, _, _ in found:
            self.published.setdefault(ids[name], now)
        blocked = [SpiffeId.parse(row[0]) for row in rows("SELECT subject FROM blocks WHERE kind = 'spiffe-id'")]
        _note(self.blocked, blocked, now)

    def refused_since(self, peer: VerifiedPeer) -> float | None:
        """Since when this peer must be refused; None if it need not be."""
        _, authority = self.issuer_of(peer.serial)
        found = (
            self.revoked.get(peer.serial),
            self.revoked_authorities.get(authority),
            self.blocked.get(peer.spiffe_id),
        )
        return min((one for one in found if one is not None), default=None)


K = TypeVar("K")


@functools.lru_cache(maxsize=256)
def _authority_id(der: bytes) -> str:
    return key_id_of(parse_chain([der])[0])


def _note(known: dict[K, float], present: Iterable[K], now: float) -> None:
    kept = set(present)
    for gone in [one for one in known if one not in kept]:
        del known[gone]
    for one in kept:
        known.setdefault(one, now)
