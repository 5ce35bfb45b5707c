"""The keys of records from the secrets of a key log (RFC 8446, section 7; RFC 5246, sections 5 and 6.3). Pure."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from meshtls.capture.aead import SuiteAead
from meshtls.wire.side import Side

__all__ = ["IV_BYTES", "TrafficKeys", "expand_label", "keys_of_master", "keys_of_secret", "next_secret", "prf"]

#: The nonce of every AEAD of TLS.
IV_BYTES = 12
_HASHES: Mapping[str, type[hashes.HashAlgorithm]] = {"sha256": hashes.SHA256, "sha384": hashes.SHA384}


class TrafficKeys(NamedTuple):
    """What protects the records of one direction. ``iv`` is the whole nonce or its first 4 bytes, which are fixed."""

    key: bytes
    iv: bytes

    def __repr__(self) -> str:
        return "<TrafficKeys>"


def expand_label(hash_name: str, secret: bytes, label: str, context: bytes, length: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446, section 7.1): ``length`` bytes."""
    full = b"tls13 " + label.encode()
    info = b"".join((length.to_bytes(2, "big"), bytes((len(full),)), full, bytes((len(context),)), context))
    return HKDFExpand(_HASHES[hash_name](), length, info).derive(secret)


def keys_of_secret(aead: SuiteAead, secret: bytes) -> TrafficKeys:
    """The keys of a traffic secret of TLS 1.3 (RFC 8446, section 7.3)."""
    return TrafficKeys(
        expand_label(aead.hash_name, secret, "key", b"", aead.key_bytes),
        expand_label(aead.hash_name, secret, "iv", b"", IV_BYTES),
    )


def next_secret(aead: SuiteAead, secret: bytes) -> bytes:
    """The traffic secret after a KeyUpdate (RFC 8446, section 7.2)."""
    return expand_label(aead.hash_name, secret, "traffic upd", b"", len(secret))


def prf(hash_name: str, secret: bytes, label: bytes, seed: bytes, length: int) -> bytes:
    """The pseudorandom function of TLS 1.2 (RFC 5246, section 5)."""
    seed = label + seed
    result, chain = b"", seed
    while len(result) < length:
        chain = hmac.digest(secret, chain, hash_name)
        result += hmac.digest(secret, chain + seed, hash_name)
    return result[:length]


def keys_of_master(
    aead: SuiteAead, master: bytes, client_random: bytes, server_random: bytes, side: Side
) -> TrafficKeys:
    """The keys of what ``side`` sends in TLS 1.2 (RFC 5246, section 6.3); an AEAD has no MAC keys."""
    fixed = IV_BYTES - aead.explicit_bytes
    block = prf(aead.hash_name, master, b"key expansion", server_random + client_random, 2 * (aead.key_bytes + fixed))
    at = 0 if side is Side.CLIENT else 1
    ivs = 2 * aead.key_bytes
    return TrafficKeys(
        block[at * aead.key_bytes : (at + 1) * aead.key_bytes],
        block[ivs + at * fixed : ivs + (at + 1) * fixed],
    )
