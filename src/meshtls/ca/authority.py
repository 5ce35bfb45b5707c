"""The certificate authority of one trust domain: a root, an intermediate that is renewed, and the leaves it signs."""

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
from meshtls.ca.keys.token_keys import is_offline
from meshtls.ca.profile import (
    BACKDATE,
    CaSubject,
    PublicKey,
    Signer,
    downstream_certificate,
    intermediate_certificate,
    leaf_certificate,
    root_certificate,
)
from meshtls.ca.records import IssuanceLog, IssuanceRecord, IssuanceRecorder
from meshtls.clock import Clock
from meshtls.errors import ConfigError, RequestError
from meshtls.logs import logger
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.x509 import format_serial, key_id_of

__all__ = ["Authority", "Issued", "Lifetimes"]

log = logger("meshtls.ca")

_INTERMEDIATE = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """The lifetime of each kind of certificate; none outlives its issuer. Raises ConfigError if they don't fit."""

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
    """A signed leaf with its intermediate, leaf first, and the record to store."""

    chain: tuple[x509.Certificate, ...]
    record: IssuanceRecord


class Authority:
    """Issues the X509-SVIDs of one trust domain. Construct it with ``create``; ``close`` releases its keys."""

    def __init__(
        self,
        trust_domain: TrustDomain,
        clock: Clock,
        lifetimes: Lifetimes,
        keys: KeyManager,
        recorder: IssuanceRecorder,
        subject: CaSubject,
        revocation_url: str = "",
    ) -> None:
        self.trust_domain = trust_domain
        self._clock = clock
        self._lifetimes = lifetimes
        self._keys = keys
        self._recorder = recorder
        self._subject = subject
        self._revocation_url = revocation_url
        stored = keys.load()
        if stored:
            self._root, self._intermediate = stored[Slot.ROOT], stored[Slot.INTERMEDIATE]
            self._previous = stored.get(Slot.PREVIOUS)
            check_hierarchy(trust_domain, stored, keys)
        else:
            key = keys.generate(Slot.ROOT)
            self._root = Signer(root_certificate(trust_domain, key, clock.now(), lifetimes.root, subject), key)
            self._intermediate = self._new_intermediate(self._root)
            self._previous = None
            keys.save({Slot.ROOT: self._root, Slot.INTERMEDIATE: self._intermediate})
        self._renew_after = self._renewal_time()

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
        revocation_url: str = "",
    ) -> Authority:
        """Load the CA that ``keys`` stores, or create one if there is none.

        - ``intermediate_ttl``: default 30 days, or twice ``svid_ttl`` if that is longer, so that no leaf is cut short.
        - ``keys``, ``recorder``: by default in memory.
        - ``subject``: the subject of CA certificates that are created from now on.
        - ``revocation_url``: leaves point to the CRL of their issuer and to OCSP below it; empty for no pointers.

        Raises ConfigError for invalid TTLs and for stored keys that can't be used. The stored keys then stay as they
        are, and ``keys`` is closed.
        """
        place = keys or MemoryKeys()
        try:
            lifetimes = Lifetimes(svid_ttl, intermediate_ttl or max(_INTERMEDIATE, 2 * svid_ttl), ca_ttl)
            return cls(trust_domain, clock, lifetimes, place, recorder or IssuanceLog(), subject, revocation_url)
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
        """Sign a leaf, record it, and return its chain, leaf first. Raises as ``sign`` and the recorder do."""
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

        - ``key_or_csr``: a public key, or a CSR in PEM or DER, of which only the key is used.
        - ``ttl``: counts from now; the leaf ends with the intermediate at the latest.

        Raises RequestError for an ID, key, CSR, TTL or DNS name that can't be certified, ConfigError if the CA has
        expired.
        """
        if not spiffe_id.member_of(self.trust_domain):
            raise RequestError(f"{spiffe_id}: this CA issues for trust domain {self.trust_domain} only")
        if not spiffe_id.path:
            raise RequestError(f"{spiffe_id}: wanted an ID with a path; the trust domain's own ID is no workload's")
        key = public_key_of_csr(key_or_csr) if isinstance(key_or_csr, bytes) else check_public_key(key_or_csr)
        since = self._intermediate.certificate.not_valid_before_utc
        # One that is not valid yet was made while the clock was ahead.
        if self._renew_after is not None and not since <= self._clock.now() <= self._renew_after:
            self._renew()
        signer = self._intermediate
        wanted = self._lifetimes.svid if ttl is None else ttl
        leaf = leaf_certificate(spiffe_id, key, dns_names, signer, self._clock.now(), wanted, self._revocation_url)
        return Issued((leaf, signer.certificate, *signer.above), IssuanceRecord.of(spiffe_id, leaf))

    def sign_ca(self, csr: bytes, ttl: timedelta) -> Issued:
        """Sign the CA of a server below this one, by the root, since an intermediate may only sign leaves.

        ``csr``: a request in PEM or DER, of which only the key is used. ``ttl`` counts from now; the CA ends with the
        root at the latest. The caller must record it before it leaves the process. Raises RequestError, ConfigError.
        """
        key = public_key_of_csr(csr)
        ca = downstream_certificate(self.trust_domain, key, self._root, self._clock.now(), ttl, self._subject)
        return Issued((ca,), IssuanceRecord.of(self.trust_domain.id, ca))

    @property
    def downstream_issuer(self) -> x509.Certificate:
        """The certificate whose key ``sign_ca`` signs with."""
        return self._root.certificate

    @property
    def bundle(self) -> TrustBundle:
        """The bundle that verifies this CA's leaves: the root."""
        return TrustBundle(self.trust_domain, (self._root.certificate,))

    @property
    def root(self) -> x509.Certificate:
        """The certificate that the bundle has."""
        return self._root.certificate

    @property
    def id(self) -> str:
        """The root's subject key identifier, hexadecimal."""
        return key_id_of(self._root.certificate)

    @property
    def keys(self) -> KeyManager:
        """Where its keys are."""
        return self._keys

    @property
    def intermediate(self) -> Signer:
        """The current signer of leaves."""
        return self._intermediate

    @property
    def is_offline(self) -> bool:
        """Whether the key of the root is elsewhere, so that an operator has to renew the intermediate."""
        return is_offline(self._root.private_key)

    @property
    def wants_renewal(self) -> bool:
        """Whether an operator should renew the intermediate: half of its life is over, and the root is offline."""
        present = self._intermediate.certificate
        half = present.not_valid_before_utc + (present.not_valid_after_utc - present.not_valid_before_utc) / 2
        return self.is_offline and self._clock.now() > half

    @property
    def crl_signers(self) -> tuple[Signer, ...]:
        """The intermediates that have not ended, the present one first: each signs the CRL of its own leaves.

        An intermediate is renewed at half of its life, so there are at most two.
        """
        now = self._clock.now()
        both = (self._intermediate, *([self._previous] if self._previous else []))
        return tuple(one for one in both if now <= one.certificate.not_valid_after_utc)

    @property
    def ca_crl_signers(self) -> tuple[Signer, ...]:
        """What signs the CRL of the CAs of servers below: the root, unless its key is offline; it signs none then."""
        return () if self.is_offline else (self._root,)

    def close(self) -> None:
        """Release the keys for another process. The authority must not be used afterwards."""
        self._keys.close()

    def __repr__(self) -> str:
        until = self._root.certificate.not_valid_after_utc
        return f"<Authority {self.trust_domain} root {format_serial(self._root.certificate)} until {until:%Y-%m-%d}>"

    def _new_intermediate(self, root: Signer) -> Signer:
        key = self._keys.generate(Slot.INTERMEDIATE)
        now, ttl = self._clock.now(), self._lifetimes.intermediate
        public_key = key.public_key()
        return Signer(intermediate_certificate(self.trust_domain, public_key, root, now, ttl, self._subject), key)

    def _renewal_time(self) -> datetime | None:
        """When to renew the intermediate: after half of its lifetime, or earlier if a leaf would outlive it.

        None if the intermediate lasts as long as the root, since a new one would not last longer, or if the root's key
        is offline.
        """
        if self.is_offline:
            return None
        present = self._intermediate.certificate
        # Without the backdating: for a CA with a TTL of 10 s, that would be half of the validity period.
        start, end = present.not_valid_before_utc + BACKDATE, present.not_valid_after_utc
        if end >= self._root.certificate.not_valid_after_utc:
            return None
        return min(start + (end - start) / 2, end - self._lifetimes.svid)

    def _renew(self) -> None:
        present = self._intermediate
        is_ahead = self._clock.now() < present.certificate.not_valid_before_utc
        # Leaves that are in use hang on the one before where the present one is not valid yet.
        previous = self._previous if is_ahead and self._previous is not None else present
        try:
            renewed = self._new_intermediate(self._root)
            # The one before first: a crash between the two leaves two copies of it, and loses none.
            self._keys.save({Slot.PREVIOUS: previous, Slot.INTERMEDIATE: renewed})
        except ConfigError as error:
            # The current intermediate still signs until it expires; then signing fails with its own error.
            log.warning("the intermediate CA of %s could not be renewed: %s", self.trust_domain, error)
            return
        self._previous, self._intermediate = previous, renewed
        self._renew_after = self._renewal_time()
        log.info("renewed the intermediate CA of %s: %s", self.trust_domain, format_serial(renewed.certificate))
