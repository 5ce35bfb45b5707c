"""What is in a handshake message of TLS 1.3, in words: the fields that matter to who reads a handshake. Pure.

The bytes may be anybody's, and cut off. A field that can't be read is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

__all__ = ["fields_of", "message_name"]

Field = tuple[str, str]
#: RFC 8446, section 4.
_NAMES = {
    1: "ClientHello",
    2: "ServerHello",
    5: "EndOfEarlyData",
    8: "EncryptedExtensions",
    11: "Certificate",
    13: "CertificateRequest",
    15: "CertificateVerify",
    20: "Finished",
    24: "KeyUpdate",
}
#: RFC 8446, section 4.2, and RFC 7301, RFC 6066, RFC 7685.
_EXTENSIONS = {
    0: "server_name",
    5: "status_request",
    10: "supported_groups",
    13: "signature_algorithms",
    16: "application_layer_protocol_negotiation",
    18: "signed_certificate_timestamp",
    21: "padding",
    22: "encrypt_then_mac",
    23: "extended_master_secret",
    35: "session_ticket",
    41: "pre_shared_key",
    42: "early_data",
    43: "supported_versions",
    44: "cookie",
    45: "psk_key_exchange_modes",
    47: "certificate_authorities",
    49: "post_handshake_auth",
    50: "signature_algorithms_cert",
    51: "key_share",
}
_SUITES = {
    0x1301: "TLS_AES_128_GCM_SHA256",
    0x1302: "TLS_AES_256_GCM_SHA384",
    0x1303: "TLS_CHACHA20_POLY1305_SHA256",
    0x00FF: "TLS_EMPTY_RENEGOTIATION_INFO_SCSV",
}
_GROUPS = {
    0x0017: "secp256r1",
    0x0018: "secp384r1",
    0x0019: "secp521r1",
    0x001D: "x25519",
    0x001E: "x448",
    0x11EB: "SecP256r1MLKEM768",
    0x11EC: "X25519MLKEM768",
}
_SCHEMES = {
    0x0403: "ecdsa_secp256r1_sha256",
    0x0503: "ecdsa_secp384r1_sha384",
    0x0603: "ecdsa_secp521r1_sha512",
    0x0804: "rsa_pss_rsae_sha256",
    0x0805: "rsa_pss_rsae_sha384",
    0x0806: "rsa_pss_rsae_sha512",
    0x0807: "ed25519",
    0x0401: "rsa_pkcs1_sha256",
}
_VERSIONS = {0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}
_HEADER = 4
_MOST = 12


def message_name(kind: int) -> str:
    """The name that RFC 8446 gives this type of message, or its number."""
    return _NAMES.get(kind) or f"type {kind}"


def fields_of(kind: int, message: bytes) -> list[Field]:
    """Names and values; ``message`` begins with its header."""
    read = _READERS.get(kind)
    found: list[Field] = []
    if read is not None:
        try:
            found.extend(read(_Bytes(message[_HEADER:])))
        except ValueError:
            found.append(("the rest", "cut off, or malformed"))
    return found


class _Bytes:
    """Takes from the front. Raises ValueError where there is less."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, count: int) -> bytes:
        if len(self.data) < count:
            raise ValueError("cut off")
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def vector(self, length_bytes: int) -> _Bytes:
        return _Bytes(self.take(self.number(length_bytes)))

    def numbers(self, count: int = 2) -> list[int]:
        found = []
        while self.data:
            found.append(self.number(count))
        return found


def _named(names: dict[int, str], numbers: list[int]) -> str:
    more = f" and {len(numbers) - _MOST} more" if len(numbers) > _MOST else ""
    return ", ".join(names.get(one) or f"0x{one:04x}" for one in numbers[:_MOST]) + more


def _client_hello(rest: _Bytes) -> Iterator[Field]:
    rest.take(2)
    yield "random", rest.take(32).hex()
    yield "legacy_session_id", f"{len(rest.vector(1).data)} bytes"
    yield "cipher_suites", _named(_SUITES, rest.vector(2).numbers())
    rest.vector(1)
    yield from _extensions(rest.vector(2), client=True)


def _server_hello(rest: _Bytes) -> Iterator[Field]:
    rest.take(2)
    yield "random", rest.take(32).hex()
    rest.vector(1)
    yield "cipher_suite", _named(_SUITES, [rest.number(2)])
    rest.take(1)
    yield from _extensions(rest.vector(2), client=False)


def _encrypted_extensions(rest: _Bytes) -> Iterator[Field]:
    yield from _extensions(rest.vector(2), client=False)


def _certificate_request(rest: _Bytes) -> Iterator[Field]:
    rest.vector(1)
    yield from _extensions(rest.vector(2), client=True)


def _certificate(rest: _Bytes) -> Iterator[Field]:
    rest.vector(1)
    listed = rest.vector(3)
    sizes = []
    while listed.data:
        sizes.append(len(listed.vector(3).data))
        listed.vector(2)
    yield "certificates", ", ".join(f"{one} bytes" for one in sizes) or "none"


def _certificate_verify(rest: _Bytes) -> Iterator[Field]:
    yield "algorithm", _named(_SCHEMES, [rest.number(2)])
    yield "signature", _beginning(rest.vector(2).data)


def _finished(rest: _Bytes) -> Iterator[Field]:
    yield "verify_data", _beginning(rest.data)


def _extensions(rest: _Bytes, *, client: bool) -> Iterator[Field]:
    kinds = []
    while rest.data:
        kind = rest.number(2)
        content = rest.vector(2)
        kinds.append(kind)
        match kind:
            case 43:
                numbers = content.vector(1).numbers() if client else [content.number(2)]
                yield "supported_versions" if client else "selected_version", _named(_VERSIONS, numbers)
            case 10:
                yield "supported_groups", _named(_GROUPS, content.vector(2).numbers())
            case 13:
                yield "signature_algorithms", _named(_SCHEMES, content.vector(2).numbers())
            case 51 if client:
                shares, groups = content.vector(2), []
                while shares.data:
                    groups.append(shares.number(2))
                    shares.vector(2)
                yield "key_share", _named(_GROUPS, groups)
            case 51:
                yield "key_share", _named(_GROUPS, [content.number(2)])
            case 41:
                yield "pre_shared_key", "resumes a session" if not client else "offers to resume a session"
    yield "extensions", _named(_EXTENSIONS, kinds) or "none"


def _beginning(data: bytes) -> str:
    return f"{data[:16].hex()}{'...' if len(data) > 16 else ''} ({len(data)} bytes)"


_READERS: dict[int, Callable[[_Bytes], Iterator[Field]]] = {
    1: _client_hello,
    2: _server_hello,
    8: _encrypted_extensions,
    11: _certificate,
    13: _certificate_request,
    15: _certificate_verify,
    20: _finished,
}
