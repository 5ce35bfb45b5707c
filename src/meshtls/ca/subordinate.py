"""A CA whose certificate an upstream authority signed: the root that the bundle has, and its key, are elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from cryptography import x509

from meshtls.ca.authority import Issued
from meshtls.ca.csr import check_public_key, public_key_of_csr
from meshtls.ca.profile import (
    BACKDATE,
    CaSubject,
    PublicKey,
    Signer,
    downstream_certificate,
    leaf_certificate,
)
from meshtls.ca.records import IssuanceRecord
from meshtls.clock import Clock
from meshtls.errors import RequestError
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.x509 import format_serial, key_id_of

__all__ = ["SubordinateAuthority", "SubordinateCa", "X509Authority"]


class X509Authority(Protocol):
    """What a server signs X509-SVIDs with: an ``Authority`` with a root of its own, or a ``SubordinateAuthority``."""

    @property
    def id(self) -> str: ...

    @property
    def root(self) -> x509.Certificate: ...

    @property
    def crl_signers(self) -> tuple[Signer, ...]: ...

    @property
    def ca_crl_signers(self) -> tuple[Signer, ...]: ...

    @property
    def downstream_issuer(self) -> x509.Certificate: ...

    def sign(
        self,
        spiffe_id: SpiffeId,
        key_or_csr: PublicKey | bytes,
        *,
        ttl: timedelta | None = None,
        dns_names: Iterable[str] = (),
    ) -> Issued: ...

    def sign_ca(self, csr: bytes, ttl: timedelta) -> Issued: ...


@dataclass(frozen=True, slots=True)
class SubordinateCa:
    """A CA that signs, what leads from it to ``root`` without either, and the root."""

    signer: Signer
    above: tuple[x509.Certificate, ...]
    root: x509.Certificate

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return (self.signer.certificate, *self.above)

    @property
    def since(self) -> datetime:
        return self.signer.certificate.not_valid_before_utc

    @property
    def ends_at(self) -> datetime:
        """When the first certificate of its path ends."""
        return min(one.not_valid_after_utc for one in (*self.chain, self.root))

    @property
    def renew_at(self) -> datetime:
        """After half of its life."""
        start = self.since + BACKDATE
        return start + (self.ends_at - start) / 2


class SubordinateAuthority:
    """Signs with the newest of the CAs that were signed below one root. ``cas`` has one at least, the newest first."""

    def __init__(
        self,
        trust_domain: TrustDomain,
        clock: Clock,
        cas: Sequence[SubordinateCa],
        *,
        svid_ttl: timedelta,
        subject: CaSubject = CaSubject(),
        revocation_url: str = "",
    ) -> None:
        self.trust_domain = trust_domain
        self.cas = tuple(cas)
        self._clock = clock
        self._svid_ttl = svid_ttl
        self._subject = subject
        self._revocation_url = revocation_url

    @property
    def ca(self) -> SubordinateCa:
        """The one that signs."""
        return self.cas[0]

    @property
    def root(self) -> x509.Certificate:
        """The certificate that the bundle has."""
        return self.ca.root

    @property
    def id(self) -> str:
        """The root's subject key identifier, hexadecimal."""
        return key_id_of(self.root)

    @property
    def crl_signers(self) -> tuple[Signer, ...]:
        """The CAs that have not ended: each signs the CRL of its own leaves."""
        now = self._clock.now()
        return tuple(one.signer for one in self.cas if now <= one.signer.certificate.not_valid_after_utc)

    @property
    def ca_crl_signers(self) -> tuple[Signer, ...]:
        """The same: the CAs of servers below were signed by one of them."""
        return self.crl_signers

    @property
    def downstream_issuer(self) -> x509.Certificate:
        """The certificate whose key ``sign_ca`` signs with."""
        return self.ca.signer.certificate

    def sign(
        self,
        spiffe_id: SpiffeId,
        key_or_csr: PublicKey | bytes,
        *,
        ttl: timedelta | None = None,
        dns_names: Iterable[str] = (),
    ) -> Issued:
        """Sign a leaf for this ID, as ``Authority.sign`` does."""
        if not spiffe_id.member_of(self.trust_domain):
            raise RequestError(f"{spiffe_id}: this CA issues for trust domain {self.trust_domain} only")
        if not spiffe_id.path:
            raise RequestError(f"{spiffe_id}: wanted an ID with a path; the trust domain's own ID is no workload's")
        key = public_key_of_csr(key_or_csr) if isinstance(key_or_csr, bytes) else check_public_key(key_or_csr)
        ca, wanted = self.ca, self._svid_ttl if ttl is None else ttl
        leaf = leaf_certificate(spiffe_id, key, dns_names, ca.signer, self._clock.now(), wanted, self._revocation_url)
        return Issued((leaf, *ca.chain), IssuanceRecord.of(spiffe_id, leaf))

    def sign_ca(self, csr: bytes, ttl: timedelta) -> Issued:
        """Sign the CA of a server below this one, as ``Authority.sign_ca`` does."""
        ca, key = self.ca, public_key_of_csr(csr)
        below = downstream_certificate(self.trust_domain, key, ca.signer, self._clock.now(), ttl, self._subject)
        return Issued((below, *ca.chain), IssuanceRecord.of(self.trust_domain.id, below))

    def __repr__(self) -> str:
        ca = self.ca.signer.certificate
        return f"<SubordinateAuthority {self.trust_domain} CA {format_serial(ca)} below {self.id}>"
