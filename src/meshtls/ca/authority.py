"""The certificate authority of one trust domain: a root, an intermediate that renews itself, and what it signs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509

from meshtls.bundle import TrustBundle
from meshtls.ca.csr import check_public_key, public_key_of_csr
from meshtls.ca.hierarchy import check_hierarchy
from meshtls.ca.keys.manager import KeyManager, Slot
from meshtls.ca.keys.memory import MemoryKeys
from meshtls.ca.profile import (
    BACKDATE,
    CaSubject,
    PublicKey,
    Signer,
    intermediate_certificate,
    leaf_certificate,
    root_certificate,
)
from meshtls.ca.records import IssuanceLog, IssuanceRecord, IssuanceRecorder
from meshtls.clock import Clock
from meshtls.errors import ConfigError, RequestError
from meshtls.logs import logger
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.x509 import format_serial

__all__ = ["Authority", "Issued", "Lifetimes"]

log = logger("meshtls.ca")

_INTERMEDIATE = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long each kind of certificate is made to live; none outlives its issuer. Raises ConfigError."""

    svid: timedelta
    intermediate: timedelta
    root: timedelta

    def __post_init__(self) -> None:
        if self.svid < timedelta(seconds=1) or self.root < timedelta(seconds=1):
            raise ConfigError(f"TTLs of {self.svid} (SVID) and {self.root} (root): wanted at least one second")
        if 2 * self.svid > self.root:
            raise ConfigError(f"SVID TTL of {self.svid}: wanted at most {self.root / 2}, half of the root's life")
        if self.intermediate < 2 * self.svid:
            raise ConfigError(
                f"intermediate TTL of {self.intermediate}: wanted at least twice the SVID's {self.svid},"
                " so that it is renewed before it cuts a leaf short"
            )


@dataclass(frozen=True, slots=True)
class Issued:
    """A signed leaf with its intermediate, leaf first, and the record to keep of it."""

    chain: tuple[x509.Certificate, ...]
    record: IssuanceRecord


class Authority:
    """Issues the X509-SVIDs of one trust domain. Made with ``create``; ``close`` releases its keys."""

    def __init__(
        self,
        trust_domain: TrustDomain,
        clock: Clock,
        lifetimes: Lifetimes,
        keys: KeyManager,
        recorder: IssuanceRecorder,
        subject: CaSubject,
    ) -> None:
        self.trust_domain = trust_domain
        self._clock = clock
        self._lifetimes = lifetimes
        self._keys = keys
        self._recorder = recorder
        self._subject = subject
        self._root, self._intermediate = self._load() or self._create()
        self._renew_after = self._half_life()

    @classmethod
    def create(
        cls,
        trust_domain: TrustDomain,
        clock: Clock,
        *,
        svid_ttl: timedelta = timedelta(hours=1),
        intermediate_ttl: timedelta | None = None,
        ca_ttl: timedelta = timedelta(days=3650),
        keys: KeyManager | None = None,
        recorder: IssuanceRecorder | None = None,
        subject: CaSubject = CaSubject(),
    ) -> Authority:
        """Load the CA that ``keys`` holds, or make one where they hold none. Default: keys and records in memory.

        ``intermediate_ttl`` is 30 days unless given, or twice ``svid_ttl`` where that is longer: no leaf is cut short.
        ``subject`` is what CA certificates made from now on are called.
        Raises ConfigError for TTLs that can't be kept and for stored keys that can't be used; those stay as they are,
        and ``keys`` is closed.
        """
        place = keys or MemoryKeys()
        try:
            lifetimes = Lifetimes(svid_ttl, intermediate_ttl or max(_INTERMEDIATE, 2 * svid_ttl), ca_ttl)
            return cls(trust_domain, clock, lifetimes, place, recorder or IssuanceLog(), subject)
        except BaseException:
            place.close()
            raise

    def issue(
        self,
        spiffe_id: SpiffeId,
        key_or_csr: PublicKey | bytes,
        *,
        ttl: timedelta | None = None,
        dns_names: Iterable[str] = (),
    ) -> tuple[x509.Certificate, ...]:
        """``sign`` a leaf, record it, and return its chain, leaf first. Raises as ``sign`` and the recorder do."""
        issued = self.sign(spiffe_id, key_or_csr, ttl=ttl, dns_names=dns_names)
        self._recorder.record(issued.record)
        return issued.chain

    def sign(
        self,
        spiffe_id: SpiffeId,
        key_or_csr: PublicKey | bytes,
        *,
        ttl: timedelta | None = None,
        dns_names: Iterable[str] = (),
    ) -> Issued:
        """Sign a leaf for this ID. The caller must record it before the certificate leaves the process.

        ``key_or_csr`` is a public key or a CSR in PEM or DER, of which only the key is taken; ``ttl`` counts from now
        and is capped by the intermediate's end. Raises RequestError for an ID, key, CSR, TTL or DNS name that can't be
        certified, ConfigError where the CA has expired.
        """
        self._check_id(spiffe_id)
        key = public_key_of_csr(key_or_csr) if isinstance(key_or_csr, bytes) else check_public_key(key_or_csr)
        signer = self._signer()
        wanted = self._lifetimes.svid if ttl is None else ttl
        leaf = leaf_certificate(spiffe_id, key, dns_names, signer, self._clock.now(), wanted)
        return Issued((leaf, signer.certificate), IssuanceRecord.of(spiffe_id, leaf))

    @property
    def bundle(self) -> TrustBundle:
        """What a peer needs to verify this CA's leaves: the root."""
        return TrustBundle(self.trust_domain, (self._root.certificate,))

    @property
    def intermediate(self) -> Signer:
        """What signs leaves now."""
        return self._intermediate

    def close(self) -> None:
        """Free the place of the keys for another process. The authority must not be used afterwards."""
        self._keys.close()

    def __repr__(self) -> str:
        until = self._root.certificate.not_valid_after_utc
        return f"<Authority {self.trust_domain} root {format_serial(self._root.certificate)} until {until:%Y-%m-%d}>"

    def _check_id(self, spiffe_id: SpiffeId) -> None:
        if not spiffe_id.member_of(self.trust_domain):
            raise RequestError(f"{spiffe_id}: this CA issues for trust domain {self.trust_domain} only")
        if not spiffe_id.path:
            raise RequestError(f"{spiffe_id}: wanted an ID with a path; the trust domain's own ID is no workload's")

    def _load(self) -> tuple[Signer, Signer] | None:
        stored = self._keys.load()
        if not stored:
            return None
        root, intermediate = stored[Slot.ROOT], stored[Slot.INTERMEDIATE]
        check_hierarchy(self.trust_domain, root, intermediate, self._keys)
        return root, intermediate

    def _create(self) -> tuple[Signer, Signer]:
        key = self._keys.generate(Slot.ROOT)
        now, ttl = self._clock.now(), self._lifetimes.root
        root = Signer(root_certificate(self.trust_domain, key, now, ttl, self._subject), key)
        intermediate = self._new_intermediate(root)
        self._keys.save({Slot.ROOT: root, Slot.INTERMEDIATE: intermediate})
        return root, intermediate

    def _new_intermediate(self, root: Signer) -> Signer:
        key = self._keys.generate(Slot.INTERMEDIATE)
        now, ttl = self._clock.now(), self._lifetimes.intermediate
        public_key = key.public_key()
        return Signer(intermediate_certificate(self.trust_domain, public_key, root, now, ttl, self._subject), key)

    def _signer(self) -> Signer:
        if self._renew_after is not None and self._clock.now() > self._renew_after:
            self._renew()
        return self._intermediate

    def _half_life(self) -> datetime | None:
        """Of the present intermediate, or earlier where a stored one was made for shorter leaves; None for one that
        lasts as long as the root: it gains nothing from a renewal.
        """
        present = self._intermediate.certificate
        # Without the backdating, which is no life: counted as one, it is half of all where the CA lives 10 s.
        start, end = present.not_valid_before_utc + BACKDATE, present.not_valid_after_utc
        if end >= self._root.certificate.not_valid_after_utc:
            return None
        return min(start + (end - start) / 2, end - self._lifetimes.svid)

    def _renew(self) -> None:
        renewed = self._new_intermediate(self._root)
        try:
            self._keys.save({Slot.INTERMEDIATE: renewed})
        except ConfigError as error:
            # The present one still signs, and where it has expired the next step refuses: nobody is cut off early.
            log.warning("the intermediate CA of %s could not be renewed: %s", self.trust_domain, error)
            return
        self._intermediate = renewed
        self._renew_after = self._half_life()
        log.info("renewed the intermediate CA of %s: %s", self.trust_domain, format_serial(renewed.certificate))
