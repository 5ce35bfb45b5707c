"""An upstream authority in files, which are read each time: replacing them replaces it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from meshtls.bundle import JwtAuthority
from meshtls.ca.csr import check_public_key, public_key_of_csr
from meshtls.ca.profile import CaSubject, Signer, downstream_certificate
from meshtls.clock import Clock
from meshtls.errors import ConfigError, RequestError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.regular_files import open_regular
from meshtls.server.settings import DiskUpstream
from meshtls.serverapi.upstream import UpstreamBundle, UpstreamCa, UpstreamKey
from meshtls.spiffeid import TrustDomain
from meshtls.svid.leaf_rules import signing_violations
from meshtls.svid.x509 import PrivateKey, key_id_of

__all__ = ["DiskAuthority"]

_LARGEST = 1 << 20
_OTHERS = 0o007


@dataclass(frozen=True, slots=True)
class _Files:
    signer: Signer
    above: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]


class DiskAuthority:
    """Implements UpstreamAuthority. Raises ConfigError, which names the file, where one can't be used."""

    def __init__(self, files: DiskUpstream, trust_domain: TrustDomain, clock: Clock, subject: CaSubject) -> None:
        self._paths = files
        self._trust_domain = trust_domain
        self._clock = clock
        self._subject = subject

    @property
    def name(self) -> str:
        return str(self._paths.cert_file)

    async def sign_ca(self, csr: bytes, ttl: timedelta) -> UpstreamCa:
        files = await asyncio.to_thread(self._read)
        now = self._clock.now()
        if files.signer.certificate.not_valid_after_utc <= now:
            raise ConfigError(f"{self._paths.cert_file}: this CA certificate has expired; replace it and its key")
        key = public_key_of_csr(csr)
        ca = downstream_certificate(self._trust_domain, key, files.signer, now, ttl, self._subject)
        return UpstreamCa((ca, *files.above), files.roots)

    async def bundle(self) -> UpstreamBundle:
        files = await asyncio.to_thread(self._read)
        return UpstreamBundle(files.roots, issuer=key_id_of(files.signer.certificate))

    async def publish(self, kid: str, key: JwtAuthority, ends_at: datetime) -> Mapping[str, UpstreamKey]:
        raise ConfigError(f"{self.name}: files publish no keys")

    def on_change(self, changed: Callable[[], None]) -> None:
        """Files tell of nothing: ``bundle`` reads them."""

    def _read(self) -> _Files:
        paths = self._paths
        first, *others = _certificates(paths.cert_file)
        key = _key(paths.key_file)
        if first.public_key() != key.public_key():
            raise ConfigError(
                f"{paths.key_file}: wanted the key of the first certificate in {paths.cert_file}, got another one;"
                " replace both files"
            )
        for one in (first, *others):
            for violation in signing_violations(one):
                raise ConfigError(f"{paths.cert_file}: {violation}")
        roots = _certificates(paths.bundle_file) if paths.bundle_file else []
        if _is_root(first):
            return _Files(Signer(first, key), (), (first, *(one for one in roots if one != first)))
        if not roots:
            raise ConfigError(
                f"{paths.cert_file}: its certificate is no root; give bundle_file_path, a file with the root"
            )
        above = tuple(one for one in (first, *others) if one not in roots)
        return _Files(Signer(first, key), above, tuple(roots))


def _is_root(certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_content(path))
    except PARSE_ERRORS as error:
        raise ConfigError(f"{path}: wanted CA certificates in PEM: {error}") from error


def _key(path: Path) -> PrivateKey:
    content = _content(path, private=True)
    try:
        key = load_pem_private_key(content, password=None)
        check_public_key(key.public_key())
    except RequestError as error:
        raise ConfigError(f"{path}: {error}") from error
    except PARSE_ERRORS as error:
        raise ConfigError(f"{path}: wanted an unencrypted key in PEM (PKCS#1, PKCS#8 or SEC1): {error}") from error
    if not isinstance(key, PrivateKey):
        raise ConfigError(f"{path}: wanted an EC or RSA key, got {type(key).__name__}")
    return key


def _content(path: Path, *, private: bool = False) -> bytes:
    try:
        with open_regular(path) as file:
            mode = os.fstat(file.fileno()).st_mode
            if private and mode & _OTHERS:
                raise ConfigError(
                    f"{path}: mode {mode & 0o777:04o} gives every user access to a CA key; run chmod 600 {path}"
                )
            return file.read(_LARGEST)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
