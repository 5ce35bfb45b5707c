"""``python -m bench.token``: what a signature of a CA's key costs in memory and in a PKCS#11 token (SoftHSM2)."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
from tests.support.softhsm import MODULE, soft_hsm

__all__ = ["KINDS", "Cost", "main", "missing", "token_costs"]

_WEB = SpiffeId.parse("spiffe://example.org/web")
#: The keys that are measured.
KINDS = (KeyAlgorithm.P256, KeyAlgorithm.P384, KeyAlgorithm.RSA2048)


@click.command()
@click.option("--seconds", type=click.FloatRange(0.1), default=3.0, show_default=True, help="For each figure.")
def main(seconds: float) -> None:
    """Print CPU-µs a signature and a leaf certificate, and signatures per second of one core."""
    if why := missing():
        raise click.ClickException(why)
    click.echo("| key | where | CPU-µs a signature | signatures/s of a core | CPU-µs a leaf |")
    click.echo("|---|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as directory:
        for one in token_costs(Path(directory) / "hsm", seconds):
            rate = f"{1e6 / one.signature:,.0f}"
            click.echo(f"| {one.key} | {one.where} | {one.signature:.0f} | {rate} | {one.leaf:.0f} |")
    click.echo(f"\n{this_machine().load}")


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU-µs of a signature and of a leaf certificate. ``where`` is ``memory`` or ``token``."""

    key: str
    where: str
    signature: float
    leaf: float


def missing() -> str | None:
    """What SoftHSM2's token needs and this machine lacks; None if it can be measured."""
    tools = [name for name in ("softhsm2-util", "pkcs11-tool") if shutil.which(name) is None]
    lacking = [*tools, *([] if MODULE.exists() else [str(MODULE)])]
    if importlib.util.find_spec("pkcs11") is None:
        return "no python-pkcs11 here; pip install '.[hsm]'"
    return f"no {' and no '.join(lacking)} here; install them (Debian: softhsm2, opensc)" if lacking else None


def token_costs(directory: Path, seconds: float) -> Iterator[Cost]:
    """Each kind of key in memory and in a token below ``directory``, with this many CPU seconds for each figure."""
    with soft_hsm(directory) as hsm:
        token = hsm.token()
        for kind in KINDS:
            for where, key in (("memory", kind.generate()), ("token", token.generate(kind, "bench"))):
                yield Cost(kind.value, where, cost(signing(key), seconds), cost(issuing(key), seconds))
        token.close()


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
