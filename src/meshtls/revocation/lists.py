"""The CRLs that this side judges by, per trust domain (RFC 5280, section 6.3.3). Pure.

A CRL counts for the certificates that its own signer issued, and for no other. So a partner's CRL can't revoke an
identity of ours, whoever it names as its issuer. Where a trust domain has a ``CrlRule``, each certificate of a path
below the root needs a fresh CRL. Elsewhere an issuer without a CRL is accepted, and one whose CRL is stale is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from meshtls.logs import logger
from meshtls.revocation.crl import Crl, CrlError, load_crl
from meshtls.spiffeid import TrustDomain
from meshtls.svid.presented import Presented
from meshtls.svid.trust import NO_REVOCATIONS, ListedStatus, Revocations
from meshtls.svid.x509 import format_moment

__all__ = ["CrlLists", "CrlRule", "is_listed", "list_count", "listed_count", "revocations_of"]


log = logger("meshtls.revocation")


@dataclass(frozen=True, slots=True)
class CrlRule:
    """The CRLs that are configured for one trust domain.

    - ``accept_peers_without_a_fresh_crl``: accept a peer though no CRL of an issuer is fresh. What the newest one lists
      is still refused.
    - ``leaves_only``: only the leaf's issuer needs a CRL, not those above it.
    """

    crls: tuple[Crl, ...] = ()
    accept_peers_without_a_fresh_crl: bool = False
    leaves_only: bool = False


@dataclass(frozen=True, slots=True)
class CrlLists:
    """The CRLs by which peers are checked. ``received`` are the CRLs of the Workload API, ``rules`` what is configured.

    ``incomplete`` says why some that were sent are not among ``received``. Every issuer then needs one.
    """

    received: tuple[Crl, ...] = ()
    rules: Mapping[TrustDomain, CrlRule] = field(default_factory=dict)
    incomplete: str = ""

    def status(
        self, trust_domain: TrustDomain, one: Presented, issuer: Presented, now: datetime | None, *, is_leaf: bool
    ) -> ListedStatus | str:
        """See ``svid.trust.RevocationLists``. A certificate that is in the newest CRL stays revoked when it is stale.

        The newest is the one with the latest time, then the highest number.
        """
        rule = self.rules.get(trust_domain)
        present = (*self.received, *(rule.crls if rule is not None else ()))
        named = [crl for crl in present if crl.names_as_issuer(issuer)]
        signed = [crl for crl in named if crl.signed_by(issuer)]
        usable = [crl for crl in signed if not crl.problem and (now is None or crl.this_update <= now)]
        newest = max(usable, key=lambda crl: (crl.this_update, crl.number or 0), default=None)
        if newest is not None:
            if one.certificate.serial_number in newest.serials:
                return ListedStatus.REVOKED
            if now is None or now <= newest.next_update:
                return ListedStatus.GOOD
        required = bool(self.incomplete) or (rule is not None and (is_leaf or not rule.leaves_only))
        if (not signed and not required) or (rule is not None and rule.accept_peers_without_a_fresh_crl):
            return ListedStatus.GOOD
        return self._why(named, signed, newest, now)

    def next_change(self, now: datetime) -> datetime | None:
        """When the first CRL becomes valid or stale after ``now``."""
        present = (*self.received, *(crl for rule in self.rules.values() for crl in rule.crls))
        times = (moment for crl in present for moment in (crl.this_update, crl.next_update))
        return min((moment for moment in times if moment > now), default=None)

    def to_der(self) -> tuple[bytes, ...]:
        """The received CRLs."""
        return tuple(crl.der for crl in self.received)

    def _why(self, named: list[Crl], signed: list[Crl], newest: Crl | None, now: datetime | None) -> str:
        clock = "" if now is None else f"; our clock says {format_moment(now)}"
        if newest is not None:
            return f"the CRL of its issuer is stale since {format_moment(newest.next_update)}{clock}"
        for crl in signed:
            if crl.problem:
                return f"the CRL of its issuer can't be used: {crl.problem}"
        if signed:
            return f"the CRL of its issuer is not valid before {format_moment(signed[0].this_update)}{clock}"
        if named:
            return "the CRL in its issuer's name was not signed by a key of the issuer that may sign CRLs"
        return f"there is no CRL of its issuer{f', and {self.incomplete}' if self.incomplete else ''}"

    def __repr__(self) -> str:
        configured = "".join(f", {domain}: {len(rule.crls)}" for domain, rule in self.rules.items())
        return f"<CrlLists [{len(self.received)} received{configured}]>"


def revocations_of(ders: Iterable[bytes]) -> Revocations:
    """What the CRLs of our own servers revoke. One that can't be read is left out, and logged."""
    lists = []
    for der in ders:
        try:
            lists.append(load_crl(der))
        except CrlError as error:
            log.warning("a CRL of the server can't be used, and is left out: %s", error)
    return Revocations(lists=CrlLists(tuple(lists))) if lists else NO_REVOCATIONS


def is_listed(revocations: Revocations, serial_number: int) -> bool:
    """Whether a received CRL lists this serial number, whichever issuer it is of."""
    lists = revocations.lists
    return isinstance(lists, CrlLists) and any(serial_number in crl.serials for crl in lists.received)


def listed_count(revocations: Revocations) -> int:
    """How many certificates the received CRLs list."""
    lists = revocations.lists
    return sum(len(crl.serials) for crl in lists.received) if isinstance(lists, CrlLists) else 0


def list_count(revocations: Revocations) -> int:
    """How many CRLs were received."""
    lists = revocations.lists
    return len(lists.received) if isinstance(lists, CrlLists) else 0
