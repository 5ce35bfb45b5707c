"""CA keys in a data directory: ``root.pem`` and ``intermediate.pem``, each one certificate and its private key.

Certificate and key share a file so that renewing an intermediate is one atomic replacement: there is no moment at
which a crash leaves a key beside another key's certificate.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from meshtls.ca.csr import check_public_key
from meshtls.ca.keys.manager import KeyAlgorithm, Slot
from meshtls.ca.profile import Signer
from meshtls.errors import ConfigError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.private_files import lock_directory, read_secret, replace_secrets
from meshtls.svid.x509 import PrivateKey

__all__ = ["DiskKeys"]

_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"


class DiskKeys:
    """A KeyManager in a directory, which it locks until ``close``. Raises ConfigError where another process has it,
    where it isn't this user's alone, or where it can't be made.
    """

    def __init__(self, directory: Path, algorithm: KeyAlgorithm = KeyAlgorithm.P256) -> None:
        self._directory = directory
        self._algorithm = algorithm
        self._lock: int | None = lock_directory(directory)

    def load(self) -> Mapping[Slot, Signer]:
        missing = [slot for slot in Slot if not os.path.lexists(self._path(slot))]
        if len(missing) == len(Slot):
            return {}
        if missing:
            raise ConfigError(
                f"{self.where(missing[0])}: missing, though the CA's other file is there;"
                " restore it from a backup, or empty the directory to start a new CA"
            )
        return {slot: _parse(self._path(slot)) for slot in Slot}

    def generate(self, slot: Slot) -> PrivateKey:
        return self._algorithm.generate()

    def save(self, signers: Mapping[Slot, Signer]) -> None:
        replace_secrets({self._path(slot): _serialize(signer) for slot, signer in signers.items()})

    def where(self, slot: Slot) -> str:
        return str(self._path(slot))

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __repr__(self) -> str:
        return f"<DiskKeys {self._directory} [{'closed' if self._lock is None else 'locked'}]>"

    def _path(self, slot: Slot) -> Path:
        return self._directory / f"{slot.value}.pem"


def _serialize(signer: Signer) -> bytes:
    key = signer.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return signer.certificate.public_bytes(Encoding.PEM) + key


def _parse(path: Path) -> Signer:
    content = read_secret(path)
    found = list(_blocks(content))
    if sorted(label for label, _ in found) != [b"CERTIFICATE", b"PRIVATE KEY"]:
        labels = ", ".join(ascii(label.decode("latin-1"))[1:-1] for label, _ in found) or "no PEM at all"
        raise _corrupt(path, f"wanted one CERTIFICATE and one PRIVATE KEY in PEM, got {labels}")
    blocks = dict(found)
    try:
        certificate = x509.load_pem_x509_certificate(blocks[b"CERTIFICATE"])
        key = load_pem_private_key(blocks[b"PRIVATE KEY"], password=None)
        check_public_key(key.public_key())
        check_public_key(certificate.public_key())
    except PARSE_ERRORS as error:
        raise _corrupt(path, str(error)) from error
    if not isinstance(key, PrivateKey):
        raise _corrupt(path, f"wanted an EC or RSA key, got {type(key).__name__}")
    return Signer(certificate, key)


def _blocks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The label and the whole text of each block that is complete (RFC 7468)."""
    for part in content.split(_BEGIN)[1:]:
        label, _, rest = part.partition(_DASHES)
        end = _END + label + _DASHES
        body, found, _ = rest.partition(end)
        if found:
            yield label, _BEGIN + label + _DASHES + body + end


def _corrupt(path: Path, what: str) -> ConfigError:
    return ConfigError(f"{path}: {what}; restore the file from a backup")
