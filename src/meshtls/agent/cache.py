"""The agent's state: entries, an SVID for each, bundles, and the watchers to notify of a change. Pure.

Every method that changes something returns the numbers of the watchers whose view may have changed. Its cost grows with
the change and the watchers that it concerns, not with all entries or all watchers.
"""

from __future__ import annotations

from collections.abc import Collection, Set
from dataclasses import dataclass, replace
from datetime import datetime

from meshtls.agent.entries import EntrySet
from meshtls.agent.upstream import Update
from meshtls.agent.watchers import Watchers
from meshtls.bundle import BundleSet
from meshtls.identity.schedule import Schedule
from meshtls.observe.readiness import Readiness, readiness_of
from meshtls.registration import Entry, Selector
from meshtls.revocation.lists import is_listed
from meshtls.scalars import count_of
from meshtls.spiffeid import TrustDomain
from meshtls.svid.trust import NO_REVOCATIONS, Revocations
from meshtls.svid.x509 import X509Svid, format_moment, issuer_key_id_of

__all__ = ["SvidCache", "View"]


@dataclass(frozen=True, slots=True)
class View:
    """The identities of one workload now.

    - ``entries``: all that it matches, the default first; ``svids``: those of their SVIDs that are valid.
    - ``revocations``: what the CRLs of our trust domain revoke.
    - ``pending``: the number of entries for which no SVID was signed or refused yet.
    - ``trouble``: the error of the latest signing.
    """

    entries: tuple[Entry, ...]
    svids: tuple[X509Svid, ...]
    bundles: BundleSet
    pending: int = 0
    trouble: str | None = None
    revocations: Revocations = NO_REVOCATIONS


@dataclass(frozen=True, slots=True)
class _Held:
    """The SVID of an entry, with the entry for which it was signed."""

    svid: X509Svid
    signed_for: Entry

    def fits(self, entry: Entry) -> bool:
        old = self.signed_for
        return (old.dns_names, old.x509_svid_ttl) == (entry.dns_names, entry.x509_svid_ttl)


class SvidCache:
    """The entries that an agent serves, and their SVIDs. ``synced``: the upstream has sent the entries. Before that no
    workload's entries are known.

    ``refused``: why it has refused this agent since, which must not serve any workload; empty if it has not.
    """

    def __init__(self, trust_domain: TrustDomain) -> None:
        self.synced, self.refused = False, ""
        self.entries = EntrySet()
        self.watchers = Watchers()
        self.bundles = BundleSet()
        self.revocations = NO_REVOCATIONS
        self._trust_domain = trust_domain
        self._held: dict[str, _Held] = {}
        #: Of every entry for which signing was tried.
        self._schedules: dict[str, Schedule] = {}
        #: Entries whose last failure was a refusal of the entry itself, not an outage of signing.
        self._refused: set[str] = set()

    def hasten(self, tainted: Collection[str], now: datetime, jitter: float) -> int:
        """Replace the SVIDs that hang on these authorities within seconds; returns how many those are.

        The SVIDs of one agent have one ``jitter``, so that they are requested together.
        """
        hanging = [key for key, held in self._held.items() if issuer_key_id_of(held.svid.chain[-1]) in tainted]
        for key in hanging:
            self._schedules[key] = self._schedules[key].hastened(now, jitter)
        return len(hanging)

    def apply(self, update: Update) -> Set[int]:
        """Apply a change of entries and bundles."""
        if update.refused:
            for entry in list(self.entries):
                self._remove(entry.id)
            self.synced, self.refused = False, update.refused
            return self.watchers.all()
        concerned: set[int] = set()
        if update.bundles is not None:
            concerned |= self._replace_bundles(update.bundles)
            concerned |= self._replace_revocations(update.revocations)
        present = {entry.id for entry in update.entries}
        gone = [one.id for one in self.entries if one.id not in present] if update.whole else update.removed
        for entry_id in gone:
            concerned |= self._remove(entry_id)
        for entry in update.entries:
            concerned |= self._put(entry)
        if update.whole and not self.synced:
            self.synced, self.refused = True, ""
            concerned |= self.watchers.all()
        return concerned

    def expire(self, now: datetime) -> Set[int]:
        """Remove the entries that have expired."""
        over = [entry.id for entry in self.entries if entry.expired(now)]
        return {number for entry_id in over for number in self._remove(entry_id)}

    def signed(self, entry: Entry, svid: X509Svid, now: datetime, jitter: float) -> Set[int]:
        """Keep the SVID that was requested for ``entry``; it is dropped if the entry has another ID by now.

        ``jitter`` is in [-1, 1], as for ``failed``.
        """
        present = self.entries.get(entry.id)
        if present is None or present.spiffe_id != svid.spiffe_id:
            return set()
        if self._is_revoked(svid):  # it was being signed when that was revoked, or when the CA above it was
            return self.failed(entry, now, jitter, "the server signed one that is revoked already")
        self._held[entry.id] = _Held(svid, entry)
        self._schedules[entry.id] = Schedule.of(svid, now, jitter)
        self._refused.discard(entry.id)
        return self.watchers.concerned(present)

    def failed(self, entry: Entry, now: datetime, jitter: float, why: str, *, refused: bool = False) -> Set[int]:
        """Signing for ``entry`` failed; the present SVID is kept.

        ``refused``: the entry itself was refused, so retrying more often as the SVID's expiry nears would not help.
        """
        if self.entries.get(entry.id) != entry:
            return set()  # changed or removed meanwhile: the failure is not about the present entry
        schedule = self._schedules.get(entry.id, Schedule(now))
        self._schedules[entry.id] = schedule.failed(now, why, jitter, ignore_expiry=refused)
        (self._refused.add if refused else self._refused.discard)(entry.id)
        return self.watchers.concerned(entry)

    def schedule_of(self, entry_id: str) -> Schedule | None:
        """The renewal schedule of this entry's SVID; None if signing was never tried."""
        return self._schedules.get(entry_id)

    def svid_of(self, entry_id: str) -> X509Svid | None:
        """The present SVID of this entry, valid or not."""
        held = self._held.get(entry_id)
        return held.svid if held else None

    @property
    def untried(self) -> int:
        """The number of entries for which no SVID was signed or refused yet."""
        return sum(entry.id not in self._schedules for entry in self.entries)

    def due(self, now: datetime) -> tuple[Entry, ...]:
        """Every entry that needs an SVID now: first those awaited by a workload, then other new ones, then by expiry of
        the present SVID, soonest first.
        """
        due = (entry for entry in self.entries if self._due_at(entry, now) <= now and not entry.expired(now))
        return tuple(sorted(due, key=self._urgency))

    def next_event(self, now: datetime) -> datetime | None:
        """When the next SVID is due or the next entry expires."""
        times = [self._due_at(entry, now) for entry in self.entries]
        ends = self.entries.next_expiry()
        return min((*times, ends) if ends else times, default=None)

    def view(self, selectors: Set[Selector], now: datetime) -> View:
        """The view of a workload with these selectors."""
        entries = self.entries.matching(selectors, now)
        held = ((entry, self.svid_of(entry.id)) for entry in entries)
        svids = tuple(replace(svid, hint=entry.hint) for entry, svid in held if svid and now <= svid.not_after)
        schedules = [self._schedules[entry.id] for entry in entries if entry.id in self._schedules]
        trouble = next((schedule.last_error for schedule in schedules if schedule.failures), None)
        domains = dict.fromkeys(domain for entry in entries for domain in (self._trust_domain, *entry.federates_with))
        bundles = BundleSet(bundle for domain in domains if (bundle := self.bundles.get(domain)))
        return View(entries, svids, bundles, len(entries) - len(schedules), trouble, self.revocations)

    def readiness(self, now: datetime) -> Readiness:
        """Whether every entry has a valid SVID now, and what endangers that.

        A refused entry counts only if there is no other.
        """
        if self.untried:
            return Readiness(False, f"{count_of(self.untried, 'SVID')} to be signed")
        entries = [entry for entry in self.entries if not entry.expired(now)]
        states = {entry.id: self._state_of(entry, now) for entry in entries}
        lost = [key for key, state in states.items() if not state.ready]
        missed = [key for key in lost if key not in self._refused]
        if missed or (lost and len(lost) == len(entries)):
            first = states[(missed or lost)[0]].text
            return Readiness(False, f"a valid SVID for {len(lost)} of {len(entries)} entries: {first}")
        late = [key for key, state in states.items() if state.ready and state.text]
        if not late:
            return Readiness(True)
        soonest = min(late, key=lambda key: self._held[key].svid.not_after)
        return Readiness(True, f"{states[soonest].text} ({len(late)} of {len(entries)} entries)")

    def first_end(self, now: datetime) -> datetime | None:
        """When the first of the SVIDs that are valid now expires."""
        ends = (held.svid.not_after for held in self._held.values())
        return min((end for end in ends if now <= end), default=None)

    def __repr__(self) -> str:
        state = f"{len(self.entries)} entries, {len(self._held)} SVIDs, {len(self.watchers)} watchers"
        return f"<SvidCache {self._trust_domain} [{state if self.synced else 'not synced'}]>"

    def _due_at(self, entry: Entry, now: datetime) -> datetime:
        held, schedule = self._held.get(entry.id), self._schedules.get(entry.id)
        if schedule is None or (not schedule.failures and held is not None and not held.fits(entry)):
            return now
        return schedule.due_at(now)

    def _state_of(self, entry: Entry, now: datetime) -> Readiness:
        held, schedule = self._held.get(entry.id), self._schedules.get(entry.id, Schedule(now))
        since, why = schedule.failing_since, schedule.last_error
        if held is not None:
            return readiness_of(held.svid, now, received=schedule.received, failing_since=since, why=why)
        reason = f" since {format_moment(since)}: {why}" if since else ""
        return Readiness(False, f"SVID {entry.spiffe_id} could not be signed{reason}")

    def _urgency(self, entry: Entry) -> tuple[bool, float]:
        held = self.svid_of(entry.id)
        if held is None:
            return (False, 0.0 if self.watchers.concerned(entry) else 1.0)
        return (True, held.not_after.timestamp())

    def _put(self, entry: Entry) -> Set[int]:
        old = self.entries.put(entry)
        if old == entry:
            return set()
        if old is None or old.spiffe_id != entry.spiffe_id:
            self._forget(entry.id)
        before = self.watchers.concerned(old) if old else set()
        return before | self.watchers.concerned(entry)

    def _remove(self, entry_id: str) -> Set[int]:
        old = self.entries.remove(entry_id)
        self._forget(entry_id)
        return self.watchers.concerned(old) if old else set()

    def _forget(self, entry_id: str) -> None:
        self._held.pop(entry_id, None)
        self._schedules.pop(entry_id, None)
        self._refused.discard(entry_id)

    def _replace_revocations(self, revocations: Revocations) -> Set[int]:
        """An SVID that was revoked is not served any more, and another one, with another key, is due at once."""
        if revocations == self.revocations:
            return set()
        self.revocations = revocations
        for entry_id, held in list(self._held.items()):
            if self._is_revoked(held.svid):
                self._forget(entry_id)
        return self.watchers.all()

    def _is_revoked(self, svid: X509Svid) -> bool:
        return any(is_listed(self.revocations, one.serial_number) for one in svid.chain)

    def _replace_bundles(self, bundles: BundleSet) -> Set[int]:
        old, self.bundles = self.bundles, bundles
        domains = {bundle.trust_domain for bundle in (*old, *bundles)}
        changed = {domain for domain in domains if old.get(domain) != bundles.get(domain)}
        if self._trust_domain in changed:
            return self.watchers.all()
        federated = [entry for entry in self.entries if changed.intersection(entry.federates_with)]
        return {number for entry in federated for number in self.watchers.concerned(entry)}
