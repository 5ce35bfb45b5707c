"""``python -m bench.token``: what a signature of a CA's key costs in memory and in a PKCS#11 token (SoftHSM2)."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from bench.report import this_machine
from meshtls.ca.keys.manager import KeyAlgorithm
from meshtls.ca.profile import Signer, leaf_certificate, root_certificate
from meshtls.revocation.building import hash_for
from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import PrivateKey
from tests.support.softhsm import soft_hsm

__all__ = ["main"]

_WEB = SpiffeId.parse("spiffe://example.org/web")
_KINDS = (KeyAlgorithm.P256, KeyAlgorithm.P384, KeyAlgorithm.RSA2048)


@click.command()
@click.option("--seconds", type=click.FloatRange(0.1), default=3.0, show_default=True, help="For each figure.")
def main(seconds: float) -> None:
    """Print CPU-µs a signature and a leaf certificate, and signatures per second of one core."""
    click.echo("| key | where | CPU-µs a signature | signatures/s of a core | CPU-µs a leaf |")
    click.echo("|---|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as directory, soft_hsm(Path(directory) / "hsm") as hsm:
        token = hsm.token()
        for kind in _KINDS:
            for where, key in (("memory", kind.generate()), ("token", token.generate(kind, "bench"))):
                signature, leaf = cost(signing(key), seconds), cost(issuing(key), seconds)
                click.echo(f"| {kind.value} | {where} | {signature:.0f} | {1e6 / signature:,.0f} | {leaf:.0f} |")
        token.close()
    click.echo(f"\n{this_machine().load}")


def signing(key: PrivateKey) -> Callable[[], object]:
    """Signs 700 bytes, as many as a leaf has."""
    content, digest = bytes(700), hash_for(key)
    if isinstance(key, rsa.RSAPrivateKey):
        return lambda: key.sign(content, padding.PKCS1v15(), digest)
    return lambda: key.sign(content, ec.ECDSA(digest))


def issuing(key: PrivateKey) -> Callable[[], object]:
    """Signs a leaf with its rules checked, as the CA does."""
    now, life = datetime.now(UTC), timedelta(hours=1)
    issuer = Signer(root_certificate(_WEB.trust_domain, key, now, 24 * life), key)
    public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return lambda: leaf_certificate(_WEB, public_key, (), issuer, now, life)


def cost(act: Callable[[], object], seconds: float) -> float:
    """CPU-µs of one act, the least of ten rounds."""
    act()
    found = []
    for _ in range(10):
        count, start = 0, time.process_time()
        while time.process_time() - start < seconds / 10:
            act()
            count += 1
        found.append((time.process_time() - start) / count * 1e6)
    return min(found)


if __name__ == "__main__":
    main(prog_name="python -m bench.token")
