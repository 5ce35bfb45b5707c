"""Node attestation: how a node without an SVID proves its identity to the server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from cryptography import x509

from meshtls.serverapi.node import AttestationClient, Attested
from meshtls.spiffeid import TrustDomain
from meshtls.svid.x509 import PrivateKey

__all__ = ["JoinToken", "NodeCertificate", "NodeProof"]


class NodeProof(Protocol):
    """One method of node attestation."""

    async def attest(self, client: AttestationClient, trust_domain: TrustDomain, csr: bytes) -> Attested:
        """Attest, and return the chain for the CSR (DER). Raises as AttestationClient."""


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A secret that the server issued for one attestation; it can be used once."""

    token: str = field(repr=False)

    async def attest(self, client: AttestationClient, trust_domain: TrustDomain, csr: bytes) -> Attested:
        return await client.with_token(self.token, csr)


@dataclass(frozen=True, slots=True)
class NodeCertificate:
    """A certificate chain from another CA, leaf first, with its key (x509pop)."""

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)

    async def attest(self, client: AttestationClient, trust_domain: TrustDomain, csr: bytes) -> Attested:
        return await client.with_certificate(self.chain, self.key, trust_domain, csr)
