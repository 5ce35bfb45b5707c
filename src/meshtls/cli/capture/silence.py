"""What a live capture says where nothing comes: no packets, or no secrets. Pure."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["QUIET_NS", "Silence"]

#: After so long without a packet it is said that none came.
QUIET_NS = 5_000_000_000


class Silence:
    """Ask it after each piece of a capture; each sentence comes once."""

    def __init__(self, interface: str, keys: str, begin_ns: int) -> None:
        """``keys``: where secrets are to come from, "" for nowhere. ``begin_ns``: the time now."""
        self._interface, self._keys, self._begin_ns = interface, keys, begin_ns
        self._told = self._told_secrets = self._came = False

    def took(self, secrets: bytes) -> None:
        """What came of the key log."""
        self._came = self._came or bool(secrets)

    def quiet(self, now_ns: int, packets: int) -> Iterator[str]:
        """What to say at this time, after so many packets."""
        if not packets and not self._told and now_ns - self._begin_ns >= QUIET_NS:
            self._told = True
            yield f"no TCP packets of {self._interface} so far: wrong interface or port?"

    def without_secrets(self) -> Iterator[str]:
        """What to say when a TLS connection is over that could not be decrypted."""
        if self._keys and not self._came and not self._told_secrets:
            self._told_secrets = True
            yield f"no TLS secrets came from {self._keys} so far: is it the key log of these connections?"
