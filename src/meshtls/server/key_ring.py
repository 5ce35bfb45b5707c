"""Where the keys of all authorities of one server are: the interface, and the ring in memory.

Each X.509 authority has a KeyManager of its own, with its root and intermediate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from meshtls.ca.keys.manager import KeyAlgorithm, KeyManager
from meshtls.ca.keys.memory import MemoryKeys
from meshtls.ca.tlog.note import NoteSigner
from meshtls.server.jwt_key import JwtKey

__all__ = ["KeyRing", "MemoryRing"]


class KeyRing(Protocol):
    """The keys of one server. Each method raises ConfigError where they can't be read or written."""

    def stored(self) -> Sequence[KeyManager]:
        """One for each X.509 authority."""

    def add(self, fill: Callable[[KeyManager], None]) -> KeyManager:
        """Add the keys that ``fill`` makes and saves: both or, after a crash, none."""

    def remove(self, keys: KeyManager) -> None:
        """Delete the keys of this authority; after a crash the next start does that."""

    def take_installed(self) -> KeyManager | None:
        """Keep the CA that `meshtls ca install` has left: as the new intermediate of the authority with its root, if
        there is one, or as that of a new one. None where nothing was left.
        """

    def stored_jwt(self) -> Sequence[JwtKey]:
        """The keys of JWT authorities."""

    def add_jwt(self) -> JwtKey:
        """Generate and store one more."""

    def remove_jwt(self, kid: str) -> None:
        """Delete this one."""

    def log_key(self) -> NoteSigner:
        """The key of the transparency log, as KeyManager's; it is the same whatever becomes of the authorities."""

    def close(self) -> None:
        """Release the storage for another process."""


class MemoryRing:
    """A KeyRing in memory, lost when the process ends."""

    def __init__(self, ca_key_type: KeyAlgorithm, jwt_key_type: KeyAlgorithm) -> None:
        self._types = ca_key_type, jwt_key_type
        self._log = MemoryKeys()
        self._x509: list[KeyManager] = []
        self._jwt: dict[str, JwtKey] = {}

    def stored(self) -> Sequence[KeyManager]:
        return tuple(self._x509)

    def add(self, fill: Callable[[KeyManager], None]) -> KeyManager:
        keys = MemoryKeys(self._types[0])
        fill(keys)
        self._x509.append(keys)
        return keys

    def remove(self, keys: KeyManager) -> None:
        self._x509.remove(keys)

    def take_installed(self) -> KeyManager | None:
        return None

    def stored_jwt(self) -> Sequence[JwtKey]:
        return tuple(self._jwt.values())

    def add_jwt(self) -> JwtKey:
        key = JwtKey(self._types[1].generate())
        self._jwt[key.kid] = key
        return key

    def remove_jwt(self, kid: str) -> None:
        del self._jwt[kid]

    def log_key(self) -> NoteSigner:
        return self._log.log_key()

    def close(self) -> None:
        """There is nothing to release."""
