"""The keys of one server's authorities in a directory.

The first authorities are in ``root.pem``, ``intermediate.pem``, ``previous.pem`` and ``jwt.pem``; each later one is in
a directory ``x509-NAME`` or a file ``jwt-KID.pem``. A directory appears and disappears by one rename. Since the first
authority has no directory of its own, a file marks that its keys are being deleted.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from cryptography import x509

from meshtls.ca.csr import check_public_key
from meshtls.ca.keys.disk import DiskKeys, InToken, destroy_in_token
from meshtls.ca.keys.manager import KeyAlgorithm, KeyManager, Slot
from meshtls.ca.keys.token_keys import offline_key
from meshtls.ca.profile import Signer
from meshtls.ca.tlog.note import NoteSigner
from meshtls.errors import ConfigError
from meshtls.private_files import replace_secrets, sync_directory
from meshtls.server.jwt_key import JwtKey, read_jwt_key, store_jwt_key
from meshtls.server.offline_root import INSTALLED, read_installed

__all__ = ["DiskRing"]

_UNFINISHED = (".new-*", ".gone-*")


class DiskRing:
    """A KeyRing in this directory, which it locks until ``close``. Raises ConfigError as DiskKeys does."""

    def __init__(
        self,
        directory: Path,
        ca_key_type: KeyAlgorithm,
        jwt_key_type: KeyAlgorithm,
        in_token: InToken | None = None,
        *,
        offline_root: bool = False,
    ) -> None:
        self._directory = directory
        self._keys_in = partial(DiskKeys, algorithm=ca_key_type, in_token=in_token, offline_root=offline_root)
        self._jwt_key_type = jwt_key_type
        self._in_token = in_token
        self._removing = directory / ".removing-first"
        self._later: dict[KeyManager, Path] = {}
        self._first = self._keys_in(directory)
        try:
            self._finish()
            for path in sorted(directory.glob("x509-*")):
                self._later[self._keys_in(path)] = path
        except BaseException:
            self.close()
            raise

    def stored(self) -> Sequence[KeyManager]:
        return [*([self._first] if self._first.load() else []), *self._later]

    def add(self, fill: Callable[[KeyManager], None]) -> KeyManager:
        if not self._later and not self._first.load():
            fill(self._first)
            return self._first
        name = secrets.token_hex(8)
        new, path = self._directory / f".new-{name}", self._directory / f"x509-{name}"
        keys = self._keys_in(new)
        try:
            fill(keys)
        finally:
            keys.close()
        self._rename(new, path)
        stored = self._keys_in(path)
        self._later[stored] = path
        return stored

    def remove(self, keys: KeyManager) -> None:
        unused = [one.private_key for one in keys.load().values()] if self._in_token else []
        path = self._later.pop(keys, None)
        if path is None:
            replace_secrets({self._removing: b""})
        else:
            keys.close()
            self._rename(path, self._directory / f".gone-{path.name}")
        self._finish()
        destroy_in_token(self._in_token, unused)

    def take_installed(self) -> KeyManager | None:
        path = self._directory / INSTALLED
        if not path.exists():
            return None
        signer, root = read_installed(path, self._in_token)
        for keys in self.stored():
            present = keys.load()
            if present[Slot.ROOT].certificate == root:
                if present[Slot.INTERMEDIATE].certificate != signer.certificate:
                    keys.save({Slot.PREVIOUS: present[Slot.INTERMEDIATE], Slot.INTERMEDIATE: signer})
                break
        else:
            keys = self._add_below(root, signer)
        # A crash before this has it taken again, which changes nothing.
        path.unlink()
        sync_directory(self._directory)
        return keys

    def stored_jwt(self) -> Sequence[JwtKey]:
        return [self._read_jwt(path) for path in self._jwt_files()]

    def add_jwt(self) -> JwtKey:
        in_token, algorithm = self._in_token, self._jwt_key_type
        key = in_token.token.generate(algorithm, "meshtls jwt") if in_token and in_token.jwt else algorithm.generate()
        return store_jwt_key(self._directory, key, first=not self._jwt_files())

    def remove_jwt(self, kid: str) -> None:
        for path in self._jwt_files():
            key = self._read_jwt(path)
            if key.kid == kid:
                path.unlink()
                destroy_in_token(self._in_token, [key.private_key])
        sync_directory(self._directory)

    def log_key(self) -> NoteSigner:
        return self._first.log_key()

    def close(self) -> None:
        for keys in (self._first, *self._later):
            keys.close()

    def __repr__(self) -> str:
        return f"<DiskRing {self._directory} [{len(self.stored())} X.509, {len(self._jwt_files())} JWT]>"

    def _add_below(self, root: x509.Certificate, signer: Signer) -> KeyManager:
        above = Signer(root, offline_key(check_public_key(root.public_key())))
        return self.add(lambda keys: keys.save({Slot.ROOT: above, Slot.INTERMEDIATE: signer}))

    def _read_jwt(self, path: Path) -> JwtKey:
        return read_jwt_key(path, self._in_token.token if self._in_token else None)

    def _jwt_files(self) -> list[Path]:
        first = self._directory / "jwt.pem"
        return [*([first] if first.exists() else []), *sorted(self._directory.glob("jwt-*.pem"))]

    def _rename(self, old: Path, new: Path) -> None:
        try:
            old.rename(new)
            sync_directory(self._directory)
        except OSError as error:
            raise ConfigError(f"{old}: can't be renamed to {new.name}: {error.strerror}") from error

    def _finish(self) -> None:
        """Delete what a crash left half made or half deleted."""
        try:
            for pattern in _UNFINISHED:
                for path in self._directory.glob(pattern):
                    shutil.rmtree(path)
            if self._removing.exists():
                self._first.delete()
                self._removing.unlink()
        except OSError as error:
            raise ConfigError(f"{self._directory}: old keys can't be deleted: {error.strerror}") from error
