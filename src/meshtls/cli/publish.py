"""Writes the public trust bundle where other programs look for it; a private key never goes this way."""

from __future__ import annotations

from pathlib import Path

from meshtls.bundle import TrustBundle
from meshtls.errors import ConfigError
from meshtls.private_files import written

__all__ = ["publish", "publish_bundle"]


def publish_bundle(directory: Path, bundle: TrustBundle) -> tuple[Path, Path]:
    """Write ``<trust domain>.pem`` and ``<trust domain>.jwks.json`` there. Raises ConfigError."""
    pem, document = (directory / f"{bundle.trust_domain}{end}" for end in (".pem", ".jwks.json"))
    publish(pem, bundle.to_pem())
    publish(document, bundle.to_jwks().encode() + b"\n")
    return pem, document


def publish(path: Path, content: bytes) -> None:
    """Replace the file in one step, readable by all: a reader sees the old one or the new. Raises ConfigError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written({path: content}, lambda _path: 0o644) as temporary:
            temporary[path].replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: wanted to write the trust bundle there: {error.strerror or error}") from error
