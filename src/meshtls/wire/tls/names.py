"""TLS's numbers and their names: the registries of IANA, but for the cipher suites (``suites.py``). Pure.

A number without a name is written as hexadecimal, and a reserved one of RFC 8701, which a client sends to see that
unknown numbers are ignored, as GREASE.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

__all__ = [
    "ALERT_LEVELS",
    "CERTIFICATE_COMPRESSIONS",
    "CERTIFICATE_STATUS_TYPES",
    "CERTIFICATE_TYPES",
    "CLIENT_CERTIFICATE_TYPES",
    "COMPRESSIONS",
    "CONTENT_TYPES",
    "CURVE_TYPES",
    "ECH_CLIENT_HELLO_TYPES",
    "EXTENSIONS",
    "GROUPS",
    "HANDSHAKE_TYPES",
    "HEARTBEAT_MODES",
    "HEARTBEAT_TYPES",
    "HPKE_AEADS",
    "HPKE_KDFS",
    "KEY_UPDATES",
    "MAX_FRAGMENT_LENGTHS",
    "NAME_TYPES",
    "POINT_FORMATS",
    "PSK_MODES",
    "SCHEMES",
    "SSL_2_0",
    "TLS_1_2",
    "TLS_1_3",
    "VERSIONS",
    "Alert",
    "ContentType",
    "Extension",
    "HandshakeType",
    "alert_name",
    "is_grease",
    "name_of",
]

SSL_2_0, TLS_1_2, TLS_1_3 = 0x0002, 0x0303, 0x0304


class ContentType(IntEnum):
    """What a record carries (RFC 8446, section 5.1; RFC 6520, section 3)."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23
    HEARTBEAT = 24


class HandshakeType(IntEnum):
    """The handshake messages (RFC 8446, section 4; RFC 5246, section 7.4; RFC 6066, section 8; RFC 8879, section 4)."""

    HELLO_REQUEST = 0
    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    HELLO_VERIFY_REQUEST = 3
    NEW_SESSION_TICKET = 4
    END_OF_EARLY_DATA = 5
    HELLO_RETRY_REQUEST = 6
    ENCRYPTED_EXTENSIONS = 8
    CERTIFICATE = 11
    SERVER_KEY_EXCHANGE = 12
    CERTIFICATE_REQUEST = 13
    SERVER_HELLO_DONE = 14
    CERTIFICATE_VERIFY = 15
    CLIENT_KEY_EXCHANGE = 16
    FINISHED = 20
    CERTIFICATE_URL = 21
    CERTIFICATE_STATUS = 22
    SUPPLEMENTAL_DATA = 23
    KEY_UPDATE = 24
    COMPRESSED_CERTIFICATE = 25
    NEXT_PROTOCOL = 67
    MESSAGE_HASH = 254


class Alert(IntEnum):
    """All alerts by their names (RFC 8446, section 6; RFC 5246, section 7.2; RFC 7301, section 3.2; RFC 9849)."""

    CLOSE_NOTIFY = 0
    UNEXPECTED_MESSAGE = 10
    BAD_RECORD_MAC = 20
    DECRYPTION_FAILED = 21
    RECORD_OVERFLOW = 22
    DECOMPRESSION_FAILURE = 30
    HANDSHAKE_FAILURE = 40
    NO_CERTIFICATE = 41
    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_REVOKED = 44
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    ILLEGAL_PARAMETER = 47
    UNKNOWN_CA = 48
    ACCESS_DENIED = 49
    DECODE_ERROR = 50
    DECRYPT_ERROR = 51
    EXPORT_RESTRICTION = 60
    PROTOCOL_VERSION = 70
    INSUFFICIENT_SECURITY = 71
    INTERNAL_ERROR = 80
    INAPPROPRIATE_FALLBACK = 86
    USER_CANCELED = 90
    NO_RENEGOTIATION = 100
    MISSING_EXTENSION = 109
    UNSUPPORTED_EXTENSION = 110
    CERTIFICATE_UNOBTAINABLE = 111
    UNRECOGNIZED_NAME = 112
    BAD_CERTIFICATE_STATUS_RESPONSE = 113
    BAD_CERTIFICATE_HASH_VALUE = 114
    UNKNOWN_PSK_IDENTITY = 115
    CERTIFICATE_REQUIRED = 116
    GENERAL_ERROR = 117
    NO_APPLICATION_PROTOCOL = 120
    ECH_REQUIRED = 121


class Extension(IntEnum):
    """The extensions that are decoded field by field (RFC 8446, section 4.2, and the RFC of each)."""

    SERVER_NAME = 0
    MAX_FRAGMENT_LENGTH = 1
    STATUS_REQUEST = 5
    SUPPORTED_GROUPS = 10
    EC_POINT_FORMATS = 11
    SIGNATURE_ALGORITHMS = 13
    HEARTBEAT = 15
    ALPN = 16
    SIGNED_CERTIFICATE_TIMESTAMP = 18
    CLIENT_CERTIFICATE_TYPE = 19
    SERVER_CERTIFICATE_TYPE = 20
    PADDING = 21
    ENCRYPT_THEN_MAC = 22
    EXTENDED_MASTER_SECRET = 23
    COMPRESS_CERTIFICATE = 27
    RECORD_SIZE_LIMIT = 28
    DELEGATED_CREDENTIAL = 34
    SESSION_TICKET = 35
    PRE_SHARED_KEY = 41
    EARLY_DATA = 42
    SUPPORTED_VERSIONS = 43
    COOKIE = 44
    PSK_KEY_EXCHANGE_MODES = 45
    CERTIFICATE_AUTHORITIES = 47
    OID_FILTERS = 48
    POST_HANDSHAKE_AUTH = 49
    SIGNATURE_ALGORITHMS_CERT = 50
    KEY_SHARE = 51
    TICKET_REQUEST = 58
    NEXT_PROTOCOL_NEGOTIATION = 13172
    ALPS_OLD = 17513
    ALPS = 17613
    ECH_OUTER_EXTENSIONS = 0xFD00
    ENCRYPTED_CLIENT_HELLO = 0xFE0D
    RENEGOTIATION_INFO = 0xFF01


_ALERT_NAMES: Mapping[int, str] = {one: one.name.lower() for one in Alert}


def alert_name(number: int) -> str:
    """The name of an alert as the standards write it, or its number."""
    return _ALERT_NAMES.get(number) or str(number)


def is_grease(number: int) -> bool:
    """Whether a number of two bytes is one of those that RFC 8701, section 2, reserves: 0x0A0A, 0x1A1A to 0xFAFA."""
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


def name_of(names: Mapping[int, str], number: int, digits: int = 4) -> str:
    """The name of a number, or the number itself, as hexadecimal of at least so many digits."""
    name = names.get(number)
    if name is not None:
        return name
    if is_grease(number):
        return f"GREASE (0x{number:04x})"
    return f"0x{number:0{digits}x}"


#: RFC 8446, section 5.1.
CONTENT_TYPES: Mapping[int, str] = {int(one): one.name.lower() for one in ContentType}
#: The names of the messages' structures.
HANDSHAKE_TYPES: Mapping[int, str] = {
    **{int(one): one.name.title().replace("_", "") for one in HandshakeType},
    HandshakeType.CERTIFICATE_URL: "CertificateURL",
    HandshakeType.MESSAGE_HASH: "message_hash",
}
#: RFC 8446, section 4.1.2; RFC 6347 for the versions of DTLS.
VERSIONS: Mapping[int, str] = {
    0x0002: "SSL 2.0",
    0x0300: "SSL 3.0",
    0x0301: "TLS 1.0",
    0x0302: "TLS 1.1",
    0x0303: "TLS 1.2",
    0x0304: "TLS 1.3",
    0xFEFF: "DTLS 1.0",
    0xFEFD: "DTLS 1.2",
    0xFEFC: "DTLS 1.3",
}
#: RFC 8446, section 6.
ALERT_LEVELS: Mapping[int, str] = {1: "warning", 2: "fatal"}
#: RFC 3749, section 2.
COMPRESSIONS: Mapping[int, str] = {0: "null", 1: "DEFLATE", 64: "LZS"}

_CURVES = """
    sect163k1 sect163r1 sect163r2 sect193r1 sect193r2 sect233k1 sect233r1 sect239k1 sect283k1 sect283r1 sect409k1
    sect409r1 sect571k1 sect571r1 secp160k1 secp160r1 secp160r2 secp192k1 secp192r1 secp224k1 secp224r1 secp256k1
    secp256r1 secp384r1 secp521r1 brainpoolP256r1 brainpoolP384r1 brainpoolP512r1 x25519 x448 brainpoolP256r1tls13
    brainpoolP384r1tls13 brainpoolP512r1tls13 GC256A GC256B GC256C GC256D GC512A GC512B GC512C curveSM2
"""
#: RFC 8446, section 4.2.7; RFC 8422, section 5.1.1; RFC 7919; RFC 8734; the drafts of ECDHE with ML-KEM.
GROUPS: Mapping[int, str] = {
    **dict(enumerate(_CURVES.split(), 1)),
    0x0100: "ffdhe2048",
    0x0101: "ffdhe3072",
    0x0102: "ffdhe4096",
    0x0103: "ffdhe6144",
    0x0104: "ffdhe8192",
    0x0200: "MLKEM512",
    0x0201: "MLKEM768",
    0x0202: "MLKEM1024",
    0x11EB: "SecP256r1MLKEM768",
    0x11EC: "X25519MLKEM768",
    0x11ED: "SecP384r1MLKEM1024",
    0x11EE: "curveSM2MLKEM768",
    0x4138: "CECPQ2",
    0x6399: "X25519Kyber768Draft00",
    0x639A: "SecP256r1Kyber768Draft00",
    0xFF01: "arbitrary_explicit_prime_curves",
    0xFF02: "arbitrary_explicit_char2_curves",
}
_HASHES = ("none", "md5", "sha1", "sha224", "sha256", "sha384", "sha512")
#: RFC 8446, section 4.2.3, over the pairs of hash and signature of RFC 5246, section 7.4.1.4.1.
SCHEMES: Mapping[int, str] = {
    **{
        digest << 8 | number: f"{signature}_{name}"
        for digest, name in enumerate(_HASHES)
        for number, signature in ((1, "rsa_pkcs1"), (2, "dsa"), (3, "ecdsa"))
    },
    0x0403: "ecdsa_secp256r1_sha256",
    0x0503: "ecdsa_secp384r1_sha384",
    0x0603: "ecdsa_secp521r1_sha512",
    0x0420: "rsa_pkcs1_sha256_legacy",
    0x0520: "rsa_pkcs1_sha384_legacy",
    0x0620: "rsa_pkcs1_sha512_legacy",
    0x0704: "eccsi_sha256",
    0x0708: "sm2sig_sm3",
    0x0709: "gostr34102012_256a",
    0x070A: "gostr34102012_256b",
    0x070B: "gostr34102012_256c",
    0x070C: "gostr34102012_256d",
    0x070D: "gostr34102012_512a",
    0x070E: "gostr34102012_512b",
    0x070F: "gostr34102012_512c",
    0x0804: "rsa_pss_rsae_sha256",
    0x0805: "rsa_pss_rsae_sha384",
    0x0806: "rsa_pss_rsae_sha512",
    0x0807: "ed25519",
    0x0808: "ed448",
    0x0809: "rsa_pss_pss_sha256",
    0x080A: "rsa_pss_pss_sha384",
    0x080B: "rsa_pss_pss_sha512",
    0x081A: "ecdsa_brainpoolP256r1tls13_sha256",
    0x081B: "ecdsa_brainpoolP384r1tls13_sha384",
    0x081C: "ecdsa_brainpoolP512r1tls13_sha512",
    0x0904: "mldsa44",
    0x0905: "mldsa65",
    0x0906: "mldsa87",
}
#: IANA's registry "TLS ExtensionType Values".
EXTENSIONS: Mapping[int, str] = {
    **{int(one): one.name.lower() for one in Extension},
    Extension.ALPN: "application_layer_protocol_negotiation",
    Extension.ALPS: "application_settings",
    Extension.ALPS_OLD: "application_settings_old",
    2: "client_certificate_url",
    3: "trusted_ca_keys",
    4: "truncated_hmac",
    6: "user_mapping",
    7: "client_authz",
    8: "server_authz",
    9: "cert_type",
    12: "srp",
    14: "use_srtp",
    17: "status_request_v2",
    24: "token_binding",
    25: "cached_info",
    26: "tls_lts",
    29: "pwd_protect",
    30: "pwd_clear",
    31: "password_salt",
    32: "ticket_pinning",
    33: "tls_cert_with_extern_psk",
    36: "TLMSP",
    37: "TLMSP_proxying",
    38: "TLMSP_delegate",
    39: "supported_ekt_ciphers",
    52: "transparency_info",
    53: "connection_id_deprecated",
    54: "connection_id",
    55: "external_id_hash",
    56: "external_session_id",
    57: "quic_transport_parameters",
    59: "dnssec_chain",
    60: "sequence_number_encryption_algorithms",
    61: "rrc",
    62: "tls_flags",
    30031: "channel_id_old",
    30032: "channel_id",
    0xFFCE: "encrypted_server_name",
}

#: RFC 6066, section 3.
NAME_TYPES: Mapping[int, str] = {0: "host_name"}
#: RFC 6066, section 4: powers of two.
MAX_FRAGMENT_LENGTHS: Mapping[int, str] = {1: "512 bytes", 2: "1024 bytes", 3: "2048 bytes", 4: "4096 bytes"}
#: RFC 6066, section 8; RFC 6961, section 2.2.
CERTIFICATE_STATUS_TYPES: Mapping[int, str] = {1: "ocsp", 2: "ocsp_multi"}
#: RFC 8422, section 5.1.2.
POINT_FORMATS: Mapping[int, str] = {
    0: "uncompressed",
    1: "ansiX962_compressed_prime",
    2: "ansiX962_compressed_char2",
}
#: RFC 8422, section 5.4.
CURVE_TYPES: Mapping[int, str] = {1: "explicit_prime", 2: "explicit_char2", 3: "named_curve"}
#: RFC 6520, sections 2 and 3.
HEARTBEAT_MODES: Mapping[int, str] = {1: "peer_allowed_to_send", 2: "peer_not_allowed_to_send"}
HEARTBEAT_TYPES: Mapping[int, str] = {1: "heartbeat_request", 2: "heartbeat_response"}
#: RFC 7250, section 3.
CERTIFICATE_TYPES: Mapping[int, str] = {0: "X.509", 1: "OpenPGP", 2: "raw_public_key", 3: "1609Dot2"}
#: RFC 5246, section 7.4.4; RFC 8422, section 5.5.
CLIENT_CERTIFICATE_TYPES: Mapping[int, str] = {
    1: "rsa_sign",
    2: "dss_sign",
    3: "rsa_fixed_dh",
    4: "dss_fixed_dh",
    5: "rsa_ephemeral_dh",
    6: "dss_ephemeral_dh",
    20: "fortezza_dms",
    64: "ecdsa_sign",
    65: "rsa_fixed_ecdh",
    66: "ecdsa_fixed_ecdh",
}
#: RFC 8879, section 7.3.
CERTIFICATE_COMPRESSIONS: Mapping[int, str] = {1: "zlib", 2: "brotli", 3: "zstd"}
#: RFC 8446, section 4.2.9; RFC 8701 reserves numbers of one byte here.
PSK_MODES: Mapping[int, str] = {0: "psk_ke", 1: "psk_dhe_ke"} | {
    0x0B + 0x1F * step: f"GREASE (0x{0x0B + 0x1F * step:02x})" for step in range(8)
}
#: RFC 8446, section 4.6.3.
KEY_UPDATES: Mapping[int, str] = {0: "update_not_requested", 1: "update_requested"}
#: RFC 9849, section 5.
ECH_CLIENT_HELLO_TYPES: Mapping[int, str] = {0: "outer", 1: "inner"}
#: RFC 9180, sections 7.2 and 7.3.
HPKE_KDFS: Mapping[int, str] = {1: "HKDF-SHA256", 2: "HKDF-SHA384", 3: "HKDF-SHA512"}
HPKE_AEADS: Mapping[int, str] = {1: "AES-128-GCM", 2: "AES-256-GCM", 3: "ChaCha20Poly1305", 0xFFFF: "export-only"}
