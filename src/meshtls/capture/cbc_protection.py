"""Decrypts the records of TLS 1.2's suites of AES-CBC and HMAC (RFC 5246, section 6.2.3.2; RFC 7366). Pure.

A record counts as opened if its MAC is right, which covers its number, type, version and length. There is no oracle to
hide from: the bytes are a capture's, and the keys are those of its reader.
"""

from __future__ import annotations

import hmac
import re
import struct
from functools import lru_cache
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from meshtls.capture.key_schedule import prf
from meshtls.capture.record_protection import NumberedRecords
from meshtls.wire.side import Side
from meshtls.wire.tls.suites import CIPHER_SUITES

__all__ = ["CbcProtection", "CbcSuite", "cbc_of_suite"]

_SUITE = re.compile(r"TLS_.*_WITH_AES_(128|256)_CBC_SHA(256|384)?", re.ASCII)
_MACS = {None: ("sha1", 20), "256": ("sha256", 32), "384": ("sha384", 48)}
_BLOCK = 16
_COVERED = struct.Struct(">QBHH")


class CbcSuite(NamedTuple):
    """How one suite protects records: bytes of the AES key, the MAC's hash and its bytes, the PRF's hash."""

    key_bytes: int
    mac_hash: str
    mac_bytes: int
    prf_hash: str


@lru_cache(maxsize=256)
def cbc_of_suite(number: int) -> CbcSuite | None:
    """How this suite protects records; None if it is none of AES-CBC."""
    found = _SUITE.fullmatch(CIPHER_SUITES.get(number, ""))
    if found is None:
        return None
    mac_hash, mac_bytes = _MACS[found[2]]
    return CbcSuite(int(found[1]) // 8, mac_hash, mac_bytes, "sha384" if mac_hash == "sha384" else "sha256")


class CbcProtection(NumberedRecords):
    """``sequence`` is the number of the next record."""

    __slots__ = ("_key", "_mac_key", "_suite", "_then_mac")

    def __init__(
        self,
        suite: CbcSuite,
        master: bytes,
        randoms: tuple[bytes, bytes],
        side: Side,
        *,
        encrypt_then_mac: bool,
    ) -> None:
        """``randoms``: the client's and the server's. ``side``: who sent the records. ``encrypt_then_mac``: the
        extension of RFC 7366 is in use.
        """
        super().__init__()
        self._suite, self._then_mac = suite, encrypt_then_mac
        client_random, server_random = randoms
        mac, key = suite.mac_bytes, suite.key_bytes
        block = prf(suite.prf_hash, master, b"key expansion", server_random + client_random, 2 * (mac + key))
        at = 0 if side is Side.CLIENT else 1
        self._mac_key = block[at * mac : (at + 1) * mac]
        self._key = block[2 * mac + at * key : 2 * mac + (at + 1) * key]

    def _open(self, content_type: int, version: int, payload: bytes, number: int) -> bytes | None:
        size = self._suite.mac_bytes
        if self._then_mac:
            payload, mac = payload[:-size], payload[-size:]
            if not self._is_mac(mac, number, content_type, version, payload):
                return None
        if len(payload) < 2 * _BLOCK or len(payload) % _BLOCK:
            return None
        decryptor = Cipher(algorithms.AES(self._key), modes.CBC(payload[:_BLOCK])).decryptor()
        content = decryptor.update(payload[_BLOCK:]) + decryptor.finalize()
        padding = content[-1] + 1
        if padding > len(content) or content[-padding:] != content[-1:] * padding:
            return None
        content = content[:-padding]
        if self._then_mac:
            return content
        if len(content) < size:
            return None
        content, mac = content[:-size], content[-size:]
        return content if self._is_mac(mac, number, content_type, version, content) else None

    def _is_mac(self, mac: bytes, number: int, content_type: int, version: int, covered: bytes) -> bool:
        data = _COVERED.pack(number, content_type, version, len(covered)) + covered
        return hmac.compare_digest(mac, hmac.digest(self._mac_key, data, self._suite.mac_hash))

    def __repr__(self) -> str:
        return f"<CbcProtection [AES-CBC, {self._suite.mac_hash}, record {self.sequence}]>"
