"""CA keys in a data directory: ``root.pem``, ``intermediate.pem`` and, once that was renewed, ``previous.pem``, each
one certificate and its private key; and ``log.pem``, the key of the transparency log. Of a key in a token, the file has
the certificate only, and the token is asked for the key to it.

Certificate and key share a file so that renewing an intermediate is one atomic replacement: a crash can't leave a key
with the certificate of another key.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from meshtls.ca.csr import check_public_key
from meshtls.ca.keys.key_file import contents_of
from meshtls.ca.keys.manager import NEEDED, KeyAlgorithm, Slot
from meshtls.ca.keys.pkcs11 import Token
from meshtls.ca.keys.token_keys import TokenEcKey, TokenRsaKey, is_offline, offline_key
from meshtls.ca.profile import Signer
from meshtls.ca.tlog.note import NoteSigner
from meshtls.errors import ConfigError
from meshtls.logs import logger
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.private_files import lock_directory, read_secret, replace_secrets, sync_directory
from meshtls.svid.x509 import PrivateKey, SignsOnly

__all__ = ["MAX_PATH", "DiskKeys", "InToken", "contents_of_signer", "destroy_in_token", "new_key", "parse_signer"]

log = logger("meshtls.ca")

#: The most certificates from an intermediate to its root.
MAX_PATH = 8
_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"


@dataclass(frozen=True, slots=True)
class InToken:
    """The keys of these slots are generated in this token, those of JWT authorities too if ``jwt``."""

    token: Token
    slots: frozenset[Slot]
    jwt: bool = False


class DiskKeys:
    """A KeyManager in a directory, which it locks until ``close``.

    If ``offline_root``, the file of a root has no key, and that of an intermediate the certificates above it, too.

    Raises ConfigError if another process has locked the directory, other users can access it, or it can't be created.
    """

    def __init__(
        self,
        directory: Path,
        algorithm: KeyAlgorithm = KeyAlgorithm.P256,
        in_token: InToken | None = None,
        *,
        offline_root: bool = False,
    ) -> None:
        self._directory = directory
        self._algorithm = algorithm
        self._in_token = in_token
        self._offline_root = offline_root
        self._lock: int | None = lock_directory(directory)

    def load(self) -> Mapping[Slot, Signer]:
        missing = [slot for slot in NEEDED if not os.path.lexists(self._path(slot))]
        if len(missing) == len(NEEDED):
            return {}
        if missing:
            raise ConfigError(
                f"{self.where(missing[0])}: missing, though the CA's other file is there;"
                " restore it from a backup, or empty the directory to start a new CA"
            )
        return {slot: self._read(slot) for slot in Slot if os.path.lexists(self._path(slot))}

    def generate(self, slot: Slot) -> PrivateKey:
        return new_key(slot, self._algorithm, self._in_token)

    def save(self, signers: Mapping[Slot, Signer]) -> None:
        replaced = [self._read(slot) for slot in signers if os.path.lexists(self._path(slot))] if self._in_token else []
        replace_secrets({self._path(slot): contents_of_signer(signer) for slot, signer in signers.items()})
        kept = [one.certificate for one in signers.values()]
        destroy_in_token(self._in_token, [one.private_key for one in replaced if one.certificate not in kept])

    def delete(self) -> None:
        """Delete the CA's keys and certificates, durably, and leave the log's key. Raises OSError."""
        for slot in Slot:
            self._path(slot).unlink(missing_ok=True)
        sync_directory(self._directory)

    def log_key(self) -> NoteSigner:
        return _log_key_in(self._directory / "log.pem")

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

    def _read(self, slot: Slot) -> Signer:
        path = self._path(slot)
        [certificate, *above], key = parse_signer(
            path, most=1 if slot is Slot.ROOT or not self._offline_root else MAX_PATH
        )
        public_key = check_public_key(certificate.public_key())
        if key is not None:
            if slot is Slot.ROOT and self._offline_root:
                log.warning("%s: the key of this root is here, though offline_root is set", path)
            elif self._in_token and slot in self._in_token.slots:
                log.warning("%s: the key is in this file; those of the next authority will be in the token", path)
        elif slot is Slot.ROOT and self._offline_root:
            key = offline_key(public_key)
        elif self._in_token:
            key = self._in_token.token.find(public_key)
        else:
            raise ConfigError(
                f"{path}: its private key is elsewhere; configure key_manager.pkcs11 if it is in a token,"
                " offline_root if it is the key of an offline root"
            )
        return Signer(certificate, key, tuple(above))


def new_key(slot: Slot, algorithm: KeyAlgorithm, in_token: InToken | None) -> PrivateKey:
    """A new key for this slot, in the token if that has such keys. Raises TokenError."""
    if in_token and slot in in_token.slots:
        return in_token.token.generate(algorithm, f"meshtls {slot.value}")
    return algorithm.generate()


def destroy_in_token(in_token: InToken | None, keys: Iterable[PrivateKey]) -> None:
    """Delete those of these keys that are in the token. One that it can't delete now is told of, and stays."""
    for key in keys:
        if in_token and isinstance(key, TokenEcKey | TokenRsaKey) and not is_offline(key):
            try:
                in_token.token.destroy(key)
            except ConfigError as error:
                log.warning("key %s, which is not used any more, could not be deleted: %s", key.id.hex(), error)


def _log_key_in(path: Path) -> NoteSigner:
    if not os.path.lexists(path):
        new = Ed25519PrivateKey.generate()
        replace_secrets({path: new.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())})
        return new
    try:
        key = load_pem_private_key(read_secret(path), password=None)
    except PARSE_ERRORS as error:
        raise _corrupt(path, str(error)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _corrupt(path, f"wanted an Ed25519 key, got {type(key).__name__}")
    return key


def contents_of_signer(signer: Signer) -> bytes:
    certificates = b"".join(one.public_bytes(Encoding.PEM) for one in (signer.certificate, *signer.above))
    if isinstance(signer.private_key, SignsOnly):
        return certificates
    return certificates + contents_of(signer.private_key)


def parse_signer(path: Path, most: int) -> tuple[list[x509.Certificate], PrivateKey | None]:
    """The certificates, ``most`` at most, and the key to the first of them unless that is elsewhere."""
    content = read_secret(path)
    # The label and the text of each complete block (RFC 7468).
    found = []
    for part in content.split(_BEGIN)[1:]:
        label, _, rest = part.partition(_DASHES)
        end = _END + label + _DASHES
        body, complete, _ = rest.partition(end)
        if complete:
            found.append((label, _BEGIN + label + _DASHES + body + end))
    certificates = [block for label, block in found if label == b"CERTIFICATE"]
    keys = [block for label, block in found if label == b"PRIVATE KEY"]
    if not 1 <= len(certificates) <= most or len(keys) > 1 or len(found) != len(certificates) + len(keys):
        labels = ", ".join(ascii(label.decode("latin-1"))[1:-1] for label, _ in found) or "no PEM at all"
        raise _corrupt(path, f"wanted one CERTIFICATE and one PRIVATE KEY in PEM, got {labels}")
    try:
        parsed = [x509.load_pem_x509_certificate(one) for one in certificates]
        check_public_key(parsed[0].public_key())
        if not keys:
            return parsed, None
        key = load_pem_private_key(keys[0], password=None)
        check_public_key(key.public_key())
    except PARSE_ERRORS as error:
        raise _corrupt(path, str(error)) from error
    if not isinstance(key, PrivateKey):
        raise _corrupt(path, f"wanted an EC or RSA key, got {type(key).__name__}")
    return parsed, key


def _corrupt(path: Path, what: str) -> ConfigError:
    return ConfigError(f"{path}: {what}; restore the file from a backup")
