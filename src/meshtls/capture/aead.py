"""Which AEAD a cipher suite uses, by the suite's name in IANA's registry (RFC 5116; RFC 8446, appendix B.4). Pure."""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from meshtls.wire.tls.suites import CIPHER_SUITES

__all__ = ["Cipher", "SuiteAead", "aead_of_suite", "suites_of_secret"]

#: A suite's cipher and hash. CCM's suites of TLS 1.2 name no hash, which makes it SHA-256 (RFC 6655, section 3).
_SUITE = re.compile(
    r"TLS_(?:.*_WITH_)?(AES_(?:128|256)_(?:GCM|CCM_8|CCM)|CHACHA20_POLY1305)(?:_(SHA256|SHA384))?", re.ASCII
)
_TLS_1_3_SUITES = range(0x1301, 0x1306)
_MESSAGE_HEADER = 4
_HASH_BYTES = {"sha256": 32, "sha384": 48}


class Cipher(Enum):
    """The AEADs that are decrypted here."""

    AES_GCM = "AES-GCM"
    AES_CCM = "AES-CCM"
    AES_CCM_8 = "AES-CCM-8"
    CHACHA20_POLY1305 = "ChaCha20-Poly1305"


class SuiteAead(NamedTuple):
    """How one suite protects records.

    - ``key_bytes``: of the key. ``tag_bytes``: of the tag after each ciphertext.
    - ``hash_name``: of the key schedule, as hashlib has it. ``hash_bytes``: of that hash, thus of a secret of TLS 1.3.
    - ``explicit_bytes``: of the nonce, sent with each record of TLS 1.2 (RFC 5288, section 3; RFC 7905, section 2).
    - ``overhead``: bytes of a record of TLS 1.3 besides its content: the tag, and the content type (RFC 8446, section
      5.2). ``finished_bytes``: of a Finished of TLS 1.3 with the message's header (RFC 8446, section 4.4.4).
    """

    cipher: Cipher
    key_bytes: int
    tag_bytes: int
    hash_name: str
    explicit_bytes: int
    hash_bytes: int
    overhead: int
    finished_bytes: int

    def cipher_of(self, key: bytes) -> AESGCM | AESCCM | ChaCha20Poly1305:
        """The cipher with this key. Raises ValueError for a key of another length."""
        if len(key) != self.key_bytes:
            raise ValueError(f"wanted a key of {self.key_bytes} bytes, got {len(key)}")
        if self.cipher is Cipher.AES_GCM:
            return AESGCM(key)
        if self.cipher is Cipher.CHACHA20_POLY1305:
            return ChaCha20Poly1305(key)
        return AESCCM(key, tag_length=self.tag_bytes)


@lru_cache(maxsize=256)
def aead_of_suite(number: int) -> SuiteAead | None:
    """The AEAD of a suite. None for a suite without one, for one that is not decrypted here, and for an unknown one."""
    found = _SUITE.fullmatch(CIPHER_SUITES.get(number, ""))
    if found is None:
        return None
    name, digest = found[1], (found[2] or "SHA256").lower()
    if name == "CHACHA20_POLY1305":
        return _suite(Cipher.CHACHA20_POLY1305, 32, 16, digest, 0)
    key_bytes = 32 if "_256_" in name else 16
    if name.endswith("GCM"):
        return _suite(Cipher.AES_GCM, key_bytes, 16, digest, 8)
    if name.endswith("CCM_8"):
        return _suite(Cipher.AES_CCM_8, key_bytes, 8, digest, 8)
    return _suite(Cipher.AES_CCM, key_bytes, 16, digest, 8)


def _suite(cipher: Cipher, key_bytes: int, tag_bytes: int, hash_name: str, explicit_bytes: int) -> SuiteAead:
    hash_bytes = _HASH_BYTES[hash_name]
    found = cipher, key_bytes, tag_bytes, hash_name, explicit_bytes
    return SuiteAead(*found, hash_bytes, overhead=tag_bytes + 1, finished_bytes=_MESSAGE_HEADER + hash_bytes)


@lru_cache(maxsize=4)
def suites_of_secret(length: int) -> tuple[SuiteAead, ...]:
    """The AEADs of TLS 1.3 whose secrets have this length, for records whose suite was not seen."""
    known = (aead_of_suite(number) for number in _TLS_1_3_SUITES)
    return tuple(one for one in known if one is not None and one.hash_bytes == length)
