"""One set of certificates for every peer: a root, an intermediate, and a P-256 leaf for each side of a pair."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.peers.base import Certs, Side, SideCerts
from meshtls.ca.authority import Authority
from meshtls.clock import SystemClock
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["TRUST_DOMAIN", "make_certs", "write_private"]

TRUST_DOMAIN = TrustDomain.parse("bench.test")


def make_certs(directory: Path) -> Certs:
    """Write them as PEM files into ``directory``; the keys, which live for this run, are 0600."""
    authority = Authority.create(TRUST_DOMAIN, SystemClock(), svid_ttl=timedelta(days=1))
    roots = directory / "root.pem"
    roots.write_bytes(authority.bundle.to_pem())
    return Certs(roots, {side: _issue(authority, directory, side) for side in Side})


def _issue(authority: Authority, directory: Path, side: Side) -> SideCerts:
    spiffe_id = SpiffeId.parse(f"spiffe://{TRUST_DOMAIN}/{side.value}")
    dns_name = f"{side.value}.{TRUST_DOMAIN}"
    key = ec.generate_private_key(ec.SECP256R1())
    chain = authority.issue(spiffe_id, key.public_key(), dns_names=[dns_name])
    certs = SideCerts(
        spiffe_id=str(spiffe_id),
        dns_name=dns_name,
        chain=directory / f"{side.value}-chain.pem",
        key=directory / f"{side.value}-key.pem",
        both=directory / f"{side.value}-both.pem",
    )
    chain_pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    certs.chain.write_bytes(chain_pem)
    write_private(certs.key, key_pem)
    write_private(certs.both, chain_pem + key_pem)
    return certs


def write_private(path: Path, content: bytes) -> None:
    """A new file that its owner alone may read, before it has a byte."""
    path.touch(mode=0o600)
    path.write_bytes(content)
