"""Protocol violations by a client, one function each, and the alerts that the RFCs permit a server.

RFC 8446 unless a section says otherwise.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from tlslite.constants import (
    AlertDescription,
    AlertLevel,
    CipherSuite,
    ContentType,
    ExtensionType,
    GroupName,
    HandshakeType,
    SignatureScheme,
)
from tlslite.extensions import (
    ClientKeyShareExtension,
    KeyShareEntry,
    PreSharedKeyExtension,
    PskIdentity,
    PskKeyExchangeModesExtension,
    SignatureAlgorithmsExtension,
    SupportedVersionsExtension,
    TLSExtension,
)
from tlslite.messages import ClientHello

from tests.integration.violations.client import HASH, V1_2, V1_3, Client, handshake_message
from tests.integration.violations.servers import BOUND

__all__ = ["PING", "VIOLATIONS", "Serves", "Violation"]

PING = b"ping"
MAX_PLAINTEXT = 1 << 14
FLOOD = 200

HANDSHAKE, ALERT, DATA = ContentType.handshake, ContentType.alert, ContentType.application_data
CCS, HEARTBEAT = ContentType.change_cipher_spec, ContentType.heartbeat
UNKNOWN = 99


class Serves(Enum):
    """Whether a server may serve this client."""

    NEVER = "never"
    MAY = "may"
    MUST = "must"


@dataclass(frozen=True)
class Violation:
    """One violation and the expected reaction.

    - ``alerts``: those that the section permits; empty if it requires no alert.
    - ``openssl``: the alert that OpenSSL, and therefore our server, sends instead.
    - ``established``: the handshake completes first, so an app may have been dialled.
    """

    act: Callable[[Client], None]
    section: str
    alerts: frozenset[str] = frozenset()
    version: tuple[int, int] = V1_3
    serves: Serves = Serves.NEVER
    established: bool = False
    openssl: frozenset[str] = frozenset()
    alert_required: bool = True

    @property
    def name(self) -> str:
        return self.act.__name__

    def __str__(self) -> str:
        return self.name


VIOLATIONS: list[Violation] = []


def violation(
    section: str,
    *alerts: str,
    version: tuple[int, int] = V1_3,
    serves: Serves = Serves.NEVER,
    established: bool = False,
    openssl: str | None = None,
    alert_required: bool = True,
) -> Callable[[Callable[[Client], None]], Callable[[Client], None]]:
    """Put the decorated function in the table."""
    instead = frozenset() if openssl is None else frozenset({openssl})
    unknown = [alert for alert in (*alerts, *instead) if not hasattr(AlertDescription, alert)]
    assert not unknown, unknown

    def add(act: Callable[[Client], None]) -> Callable[[Client], None]:
        required = alert_required and bool(alerts) and serves is Serves.NEVER
        VIOLATIONS.append(Violation(act, section, frozenset(alerts), version, serves, established, instead, required))
        return act

    return add


def extended(hello: ClientHello, kind: int, payload: bytes) -> ClientHello:
    """The ClientHello with one more extension."""
    hello.extensions.append(TLSExtension().create(kind, bytearray(payload)))
    return hello


def without(hello: ClientHello, *kinds: int) -> ClientHello:
    hello.extensions = [one for one in hello.extensions if one.extType not in kinds]
    return hello


def replaced(hello: ClientHello, extension: TLSExtension) -> ClientHello:
    hello.extensions = [extension if one.extType == extension.extType else one for one in hello.extensions]
    return hello


def hello_and(client: Client, more: bytes) -> None:
    """A good ClientHello with bytes behind it in the same packet, and the server's flight."""
    client.offered = client.hello()
    hello = bytes(client.offered.write())
    client.transcript += hello
    client.raw(plain(HANDSHAKE, hello) + more)
    client.meet()


def with_last_bit_turned(record: bytes) -> bytes:
    return record[:-1] + bytes([record[-1] ^ 1])


def plain(kind: int, payload: bytes, version: bytes = b"\x03\x03") -> bytes:
    """A record without protection."""
    return bytes([kind]) + version + len(payload).to_bytes(2) + payload


def in_records(kind: int, payload: bytes, size: int) -> bytes:
    return b"".join(plain(kind, payload[at : at + size]) for at in range(0, len(payload), size))


# ClientHello


@violation("4 (a handshake that never goes on)")
def client_hello_cut_short_then_end(client: Client) -> None:
    client.raw(plain(HANDSHAKE, bytes(client.hello().write()))[:50])
    client.socket.shutdown(socket.SHUT_WR)


@violation("4 (a handshake that never goes on)")
def client_hello_cut_short_then_silence(client: Client) -> None:
    client.raw(plain(HANDSHAKE, bytes(client.hello().write()))[:50])


@violation("4.1.2, 6.2", "decode_error")
def client_hello_whose_length_ends_within_an_extension(client: Client) -> None:
    body = bytes(client.hello().write())[4:-10]
    client.raw(plain(HANDSHAKE, handshake_message(HandshakeType.client_hello, body)))


@violation("4.1.2, 6.2", "decode_error")
def client_hello_with_bytes_behind_its_extensions(client: Client) -> None:
    body = bytes(client.hello().write())[4:] + b"more"
    client.raw(plain(HANDSHAKE, handshake_message(HandshakeType.client_hello, body)))


@violation("4.1.2, 6.2", "decode_error", "illegal_parameter")
def session_id_of_33_bytes(client: Client) -> None:
    hello = client.hello()
    hello.session_id = bytearray(33)
    client.say(hello)


@violation("4.2.1, D.5", "protocol_version", openssl="handshake_failure")
def legacy_version_ssl_3_and_no_supported_versions(client: Client) -> None:
    hello = without(client.hello(), ExtensionType.supported_versions)
    hello.client_version = (3, 0)
    client.say(hello)


@violation("4.2.1, 6.2", "protocol_version")
def legacy_version_tls_1_1_and_no_supported_versions(client: Client) -> None:
    hello = without(client.hello(), ExtensionType.supported_versions)
    hello.client_version = (3, 2)
    client.say(hello)


@violation("4.2.1, 6.2", "protocol_version")
def no_version_in_common(client: Client) -> None:
    client.say(replaced(client.hello(), SupportedVersionsExtension().create([(0x7F, 28)])))


@violation("4.2.1, 6.2", "protocol_version", "decode_error")
def empty_supported_versions(client: Client) -> None:
    client.say(extended(without(client.hello(), ExtensionType.supported_versions), 43, b"\0"))


@violation("4.1.1", "handshake_failure", "insufficient_security")
def no_cipher_in_common(client: Client) -> None:
    hello = client.hello()
    hello.cipher_suites = [0x13FF]
    client.say(hello)


@violation("4.1.2", "decode_error", "illegal_parameter", "handshake_failure")
def no_cipher_at_all(client: Client) -> None:
    hello = client.hello()
    hello.cipher_suites = []
    client.say(hello)


@violation("4.2.3, 9.2", "missing_extension")
def no_signature_algorithms(client: Client) -> None:
    client.say(without(client.hello(), ExtensionType.signature_algorithms))


@violation("4.4.2.2, 6.2", "handshake_failure", "illegal_parameter")
def no_signature_algorithm_in_common(client: Client) -> None:
    schemes = [SignatureScheme.rsa_pss_rsae_sha512]
    client.say(replaced(client.hello(), SignatureAlgorithmsExtension().create(schemes)))


@violation("4.2", "illegal_parameter", "decode_error")
def duplicated_extension(client: Client) -> None:
    hello = client.hello()
    hello.extensions.append(hello.extensions[0])
    client.say(hello)


@violation("4.1.2", "illegal_parameter")
def compression_offered(client: Client) -> None:
    hello = client.hello()
    hello.compression_methods = [1, 0]
    client.say(hello)


@violation("4.1.2", "illegal_parameter", "decode_error")
def unknown_compression_only(client: Client) -> None:
    hello = client.hello()
    hello.compression_methods = [77]
    client.say(hello)


@violation("4.1.2, 4.2.8", "illegal_parameter", "handshake_failure", "missing_extension")
def empty_key_share_again_after_hello_retry_request(client: Client) -> None:
    for _ in range(2):
        client.say(replaced(client.hello(), ClientKeyShareExtension().create([])))


@violation("4.2.8, 9.2", "missing_extension")
def no_key_share_extension(client: Client) -> None:
    client.say(without(client.hello(), ExtensionType.key_share))


@violation("4.2.8", "illegal_parameter")
def key_share_of_a_group_that_was_not_offered(client: Client) -> None:
    share = KeyShareEntry().create(GroupName.secp256r1, bytes(65))
    client.say(replaced(client.hello(), ClientKeyShareExtension().create([share])))


@violation("4.2.8, 7.4.2", "illegal_parameter")
def key_share_of_the_wrong_length(client: Client) -> None:
    share = KeyShareEntry().create(GroupName.x25519, bytes(31))
    client.say(replaced(client.hello(), ClientKeyShareExtension().create([share])))


@violation("7.4.2, RFC 7748 6.1", "illegal_parameter", "handshake_failure", "internal_error")
def key_share_of_small_order(client: Client) -> None:
    share = KeyShareEntry().create(GroupName.x25519, bytes(32))
    client.say(replaced(client.hello(), ClientKeyShareExtension().create([share])))


def pre_shared(
    client: Client, ticket: bytes = b"a ticket of nobody's" * 8, *, modes: bool = True, binders: int = 1
) -> ClientHello:
    hello = client.hello()
    if modes:
        hello.extensions.append(PskKeyExchangeModesExtension().create([1]))
    identity = PskIdentity().create(ticket, 0)
    hello.extensions.append(PreSharedKeyExtension().create([identity], [bytearray(os.urandom(HASH))] * binders))
    return hello


@violation("4.2.11 (an unknown identity is ignored)", serves=Serves.MUST)
def binder_of_an_unknown_pre_shared_key(client: Client) -> None:
    client.greet(pre_shared(client))
    client.identify()
    client.finish()


@violation("4.2.11, 6.2", "decrypt_error", openssl="illegal_parameter", established=True)
def bad_binder_of_a_real_ticket(client: Client) -> None:
    with socket.create_connection(client.socket.getpeername(), BOUND) as sock:
        earlier = Client(sock, V1_3, client.svid)
        earlier.shake()
        ticket = earlier.ticket()
    client.say(pre_shared(client, ticket))


@violation("4.2.9", "missing_extension")
def pre_shared_key_without_its_modes(client: Client) -> None:
    client.say(pre_shared(client, modes=False))


@violation("4.2.11", "illegal_parameter", "decode_error")
def pre_shared_key_that_is_not_last(client: Client) -> None:
    client.say(extended(pre_shared(client), 0x5A5A, b""))


@violation("4.2.11", "illegal_parameter", "decode_error", serves=Serves.MAY)
def fewer_binders_than_identities(client: Client) -> None:
    """OpenSSL checks the binder of an identity that it knows."""
    client.greet(pre_shared(client, binders=0))
    client.identify()
    client.finish()


@violation("RFC 7507 3", "inappropriate_fallback", "protocol_version", version=V1_2)
def fallback_from_a_version_that_the_server_has(client: Client) -> None:
    hello = client.hello()
    hello.cipher_suites = [*hello.cipher_suites, CipherSuite.TLS_FALLBACK_SCSV]
    client.say(hello)


@violation("4, 6.2", "decode_error", "illegal_parameter", "record_overflow", "unexpected_message")
def client_hello_that_says_16_megabytes(client: Client) -> None:
    client.raw(plain(HANDSHAKE, bytes([HandshakeType.client_hello]) + b"\xff\xff\xff" + bytes(1 << 10)))


@violation("4.1.2", "unexpected_message")
def server_hello_as_the_first_message(client: Client) -> None:
    body = bytes(client.hello().write())[4:]
    client.raw(plain(HANDSHAKE, handshake_message(HandshakeType.server_hello, body)))


@violation("4.1.2", "unexpected_message")
def client_hello_twice(client: Client) -> None:
    hello_and(client, plain(HANDSHAKE, bytes(client.hello().write())))


# Records


@violation("5.1", "record_overflow")
def plaintext_record_of_one_byte_too_many(client: Client) -> None:
    hello = bytes(client.hello().write())
    client.raw(plain(HANDSHAKE, hello.ljust(MAX_PLAINTEXT + 1, b"\0")))


@violation("5.1", "unexpected_message", "decode_error")
def zero_length_handshake_record(client: Client) -> None:
    client.raw(plain(HANDSHAKE, b"") * FLOOD)


@violation("5.1", "unexpected_message")
def alert_amid_the_records_of_a_client_hello(client: Client) -> None:
    hello = bytes(client.hello().write())
    client.raw(plain(HANDSHAKE, hello[:50]) + plain(ALERT, b"\1\x5a") + plain(HANDSHAKE, hello[50:]))


@violation("5.1", "unexpected_message")
def data_amid_the_records_of_a_client_hello(client: Client) -> None:
    hello = bytes(client.hello().write())
    client.raw(plain(HANDSHAKE, hello[:50]) + plain(DATA, PING) + plain(HANDSHAKE, hello[50:]))


@violation("5.1 (a message may be in many records)", serves=Serves.MUST)
def handshake_in_records_of_few_bytes(client: Client) -> None:
    client.offered = client.hello()
    hello = bytes(client.offered.write())
    client.transcript += hello
    client.raw(in_records(HANDSHAKE, hello, 2))
    client.meet()
    certificate = client.certificate_message()
    client.transcript += certificate
    for at in range(0, len(certificate), 100):
        client.record(HANDSHAKE, certificate[at : at + 100])
    client.say(client.verify_message())
    client.finish()


@violation("5.1 (the version of a record is ignored)", "protocol_version", serves=Serves.MAY)
def hello_in_a_record_of_version_3_9(client: Client) -> None:
    client.offered = client.hello()
    hello = bytes(client.offered.write())
    client.transcript += hello
    client.raw(plain(HANDSHAKE, hello, b"\x03\x09"))
    client.meet()
    client.identify()
    client.finish()


@violation("5.1, 6.2", "protocol_version", "unexpected_message", "decode_error", alert_required=False)
def hello_in_a_record_of_version_4_0(client: Client) -> None:
    client.raw(plain(HANDSHAKE, bytes(client.hello().write()), b"\x04\x00"))


@violation("5", "unexpected_message")
def record_of_unknown_type_first(client: Client) -> None:
    client.raw(plain(UNKNOWN, PING))


@violation("5", "unexpected_message")
def record_of_unknown_type_in_the_handshake(client: Client) -> None:
    client.greet()
    client.record(UNKNOWN, PING)


@violation("5", "unexpected_message", established=True)
def record_of_unknown_type_after_the_handshake(client: Client) -> None:
    client.shake()
    client.record(UNKNOWN, PING)


@violation("5.1 (a message must not span a key change)", "unexpected_message")
def key_change_within_a_record(client: Client) -> None:
    client.raw(plain(HANDSHAKE, bytes(client.hello().write()) + b"\x18\0\0\1\0"))


@violation("5.4", "unexpected_message", established=True)
def record_of_nothing_but_padding(client: Client) -> None:
    client.shake()
    client.record(0, bytes(16))


@violation("5.2", "record_overflow", established=True)
def inner_plaintext_of_one_byte_too_many(client: Client) -> None:
    client.shake()
    client.record(DATA, bytes(MAX_PLAINTEXT + 1))


@violation("5.2", "record_overflow", "bad_record_mac", established=True)
def ciphertext_longer_than_any_record(client: Client) -> None:
    client.shake()
    client.raw(plain(DATA, os.urandom(MAX_PLAINTEXT + 257)))


@violation("5.2", "bad_record_mac", established=True)
def bad_tag_after_the_handshake(client: Client) -> None:
    client.shake()
    client.raw(with_last_bit_turned(client.sealed(DATA, PING)))


@violation("5.2", "bad_record_mac")
def bad_tag_in_the_handshake(client: Client) -> None:
    client.greet()
    client.raw(with_last_bit_turned(client.sealed(HANDSHAKE, client.certificate_message())))


@violation("5.2", "bad_record_mac", "decode_error", "record_overflow", established=True)
def protected_record_shorter_than_its_tag(client: Client) -> None:
    client.shake()
    client.raw(plain(DATA, bytes(8)))


@violation("5.2", "bad_record_mac", "unexpected_message", established=True)
def plaintext_data_after_the_handshake(client: Client) -> None:
    client.shake()
    client.raw(plain(DATA, b"in the clear, and long enough to have a tag"))


@violation("5.1 (empty records of data are legal)", "unexpected_message", established=True, serves=Serves.MAY)
def flood_of_empty_data(client: Client) -> None:
    client.shake()
    for _ in range(FLOOD):
        client.record(DATA, b"")


@violation("5.3", "bad_record_mac", established=True)
def record_sent_twice(client: Client) -> None:
    client.shake()
    record = client.sealed(DATA, b"")
    client.raw(record + record)


# ChangeCipherSpec


@violation("5", "unexpected_message")
def change_cipher_spec_first(client: Client) -> None:
    client.raw(plain(CCS, b"\1") + plain(HANDSHAKE, bytes(client.hello().write())))


@violation("5", "unexpected_message", openssl="illegal_parameter")
def change_cipher_spec_of_another_value(client: Client) -> None:
    client.greet()
    client.raw(plain(CCS, b"\2"))


@violation("5", "unexpected_message", openssl="illegal_parameter")
def change_cipher_spec_of_two_bytes(client: Client) -> None:
    client.greet()
    client.raw(plain(CCS, b"\1\1"))


@violation("5", "unexpected_message")
def protected_change_cipher_spec(client: Client) -> None:
    client.greet()
    # tlslite does not protect CCS: so it is the inner type of a data record, whose own type follows as padding.
    client.record(0, b"\1" + bytes([CCS]))


@violation("5 (until Finished it is dropped)", "unexpected_message", serves=Serves.MAY)
def flood_of_change_cipher_spec(client: Client) -> None:
    client.greet()
    client.raw(plain(CCS, b"\1") * FLOOD)
    client.identify()
    client.finish()


@violation("5, D.4", "unexpected_message", established=True)
def change_cipher_spec_after_the_handshake(client: Client) -> None:
    client.shake()
    client.raw(plain(CCS, b"\1"))


# The client's flight


@violation("4.4, 2", "unexpected_message")
def data_before_certificate(client: Client) -> None:
    client.greet()
    client.record(DATA, PING)


@violation("4.4, 2", "unexpected_message")
def data_before_finished(client: Client) -> None:
    client.greet()
    client.identify()
    client.record(DATA, PING)


@violation("5", "unexpected_message", "bad_record_mac")
def plaintext_data_right_after_client_hello(client: Client) -> None:
    hello_and(client, plain(DATA, b"in the clear, and long enough to have a tag"))


@violation("2, 5", "unexpected_message", "bad_record_mac")
def unencrypted_certificate(client: Client) -> None:
    client.greet()
    client.raw(plain(HANDSHAKE, client.certificate_message()))


@violation("4.4.4", "decrypt_error")
def wrong_finished(client: Client) -> None:
    client.greet()
    client.identify()
    client.record(HANDSHAKE, client.finished_message(spoilt=True))


@violation("4.4.4", "decrypt_error", "decode_error")
def finished_cut_short(client: Client) -> None:
    client.greet()
    client.identify()
    client.record(HANDSHAKE, client.finished_message(length=12))


@violation("4.4.3", "decrypt_error")
def certificate_verify_with_a_bad_signature(client: Client) -> None:
    client.greet()
    client.say(client.certificate_message())
    client.say(client.verify_message(spoilt=True))
    client.say(client.finished_message())


@violation("4.4.3", "illegal_parameter")
def certificate_verify_of_an_algorithm_that_was_not_offered(client: Client) -> None:
    client.greet()
    client.say(client.certificate_message())
    client.say(client.verify_message(SignatureScheme.rsa_pkcs1_sha1))
    client.say(client.finished_message())


@violation("4.4.3", "illegal_parameter")
def certificate_verify_of_an_algorithm_of_another_key(client: Client) -> None:
    client.greet()
    client.say(client.certificate_message())
    client.say(client.verify_message(SignatureScheme.rsa_pss_rsae_sha256))
    client.say(client.finished_message())


@violation("4.4.3", "unexpected_message")
def certificate_verify_without_certificate(client: Client) -> None:
    client.greet()
    client.say(client.verify_message())


@violation("4.4.2.4", "certificate_required")
def empty_certificate(client: Client) -> None:
    client.greet()
    client.say(client.certificate_message([]))
    client.say(client.finished_message())


@violation("4.4.2.4", "bad_certificate", "decode_error", "unsupported_certificate", "certificate_unknown")
def certificate_that_is_no_der(client: Client) -> None:
    client.greet()
    client.say(client.certificate_message([b"no certificate"]))
    client.say(client.verify_message())
    client.say(client.finished_message())


@violation("4.4.2.4", "bad_certificate", "decode_error", "unsupported_certificate", "certificate_unknown")
def certificate_of_zero_bytes(client: Client) -> None:
    client.greet()
    client.say(client.certificate_message([b""]))
    client.say(client.verify_message())
    client.say(client.finished_message())


@violation("4.4.2, 6.2", "decode_error")
def certificate_list_longer_than_its_message(client: Client) -> None:
    client.greet()
    message = client.certificate_message()
    client.say(handshake_message(HandshakeType.certificate, message[4:-20]))


@violation("4.4.2", "illegal_parameter", "decode_error")
def certificate_with_a_context(client: Client) -> None:
    client.greet()
    client.say(client.certificate_message(context=b"context"))
    client.say(client.verify_message())
    client.say(client.finished_message())


@violation("4.4.3", "unexpected_message")
def certificate_twice(client: Client) -> None:
    client.greet()
    client.say(client.certificate_message())
    client.say(client.certificate_message())


@violation("4.4.3", "unexpected_message")
def certificate_without_certificate_verify(client: Client) -> None:
    client.greet()
    client.say(client.certificate_message())
    client.say(client.finished_message())


@violation("4 (a handshake that never goes on)")
def silence_before_certificate(client: Client) -> None:
    client.greet()


@violation("4 (a handshake that never goes on)")
def end_before_certificate(client: Client) -> None:
    client.greet()
    client.socket.shutdown(socket.SHUT_WR)


@violation("4.4, 4.4.2", "unexpected_message")
def finished_alone(client: Client) -> None:
    client.greet()
    client.say(client.finished_message())


@violation("4, 4.4", "unexpected_message")
def unknown_message_in_the_handshake(client: Client) -> None:
    client.greet()
    client.say(handshake_message(77, b"body"))


@violation("4.6.3", "unexpected_message")
def key_update_before_finished(client: Client) -> None:
    client.greet()
    client.say(handshake_message(HandshakeType.key_update, b"\0"))


@violation("4.5", "unexpected_message")
def end_of_early_data_without_early_data(client: Client) -> None:
    client.greet()
    client.say(handshake_message(HandshakeType.end_of_early_data, b""))


# After the handshake


@violation("4.6.3", "illegal_parameter", established=True)
def key_update_of_an_unknown_value(client: Client) -> None:
    client.shake()
    client.say(handshake_message(HandshakeType.key_update, b"\7"))


@violation("4.6.3, 6.2", "decode_error", established=True, openssl="illegal_parameter")
def key_update_of_two_bytes(client: Client) -> None:
    client.shake()
    client.say(handshake_message(HandshakeType.key_update, b"\0\0"))


@violation("4.1.2", "unexpected_message", established=True)
def renegotiation(client: Client) -> None:
    client.shake()
    client.say(client.hello())


@violation("4.6.1", "unexpected_message", established=True)
def new_session_ticket_of_a_client(client: Client) -> None:
    client.shake()
    client.say(handshake_message(HandshakeType.new_session_ticket, bytes(4) + bytes(4) + b"\0\0\1t\0\0"))


@violation("4.6.2", "unexpected_message", established=True)
def certificate_after_the_handshake(client: Client) -> None:
    client.shake()
    client.say(client.certificate_message())


@violation("4.4.4", "unexpected_message", established=True)
def finished_twice(client: Client) -> None:
    client.shake()
    client.say(client.finished_message())


@violation("5.1", "unexpected_message", established=True)
def data_amid_a_message_after_the_handshake(client: Client) -> None:
    client.shake()
    client.record(HANDSHAKE, bytes([HandshakeType.key_update]) + b"\0\0\1")
    client.record(DATA, PING)


@violation("6.1 (the end is not authenticated)", established=True)
def half_close_without_close_notify(client: Client) -> None:
    client.shake()
    client.socket.shutdown(socket.SHUT_WR)


@violation("6.1 (what comes after it is ignored)", established=True)
def data_after_close_notify(client: Client) -> None:
    client.shake()
    client.alert(AlertDescription.close_notify, AlertLevel.warning)
    client.record(DATA, PING)


# Alerts


@violation("5, 6.1", "unexpected_message", alert_required=False)
def close_notify_first(client: Client) -> None:
    client.raw(plain(ALERT, b"\1\0"))


@violation("6.1")
def close_notify_in_the_handshake(client: Client) -> None:
    client.greet()
    client.alert(AlertDescription.close_notify, AlertLevel.warning)


@violation("6.2 (a fatal alert ends the connection)")
def fatal_alert_in_the_handshake(client: Client) -> None:
    client.greet()
    client.alert(AlertDescription.bad_certificate)


@violation("5.1, 6", "decode_error", "unexpected_message", "illegal_parameter")
def alert_of_one_byte(client: Client) -> None:
    client.greet()
    client.record(ALERT, b"\2")


@violation("5.1, 6", "decode_error", "unexpected_message", "illegal_parameter", established=True)
def two_alerts_in_a_record(client: Client) -> None:
    client.shake()
    client.record(ALERT, b"\1\x5a\1\x5a")


@violation("5.1, 6", "decode_error", "unexpected_message", "illegal_parameter")
def alert_of_no_bytes(client: Client) -> None:
    client.greet()
    client.record(ALERT, b"")


@violation(
    "6 (the level can be ignored)",
    "decode_error",
    "unexpected_message",
    "illegal_parameter",
    established=True,
    serves=Serves.MAY,
)
def alert_of_an_unknown_level(client: Client) -> None:
    client.shake()
    client.record(ALERT, b"\7\x5a")


@violation("6.1 (user_canceled is a warning)", "unexpected_message", serves=Serves.MAY)
def flood_of_warnings_in_the_handshake(client: Client) -> None:
    client.greet()
    for _ in range(FLOOD):
        client.alert(AlertDescription.user_canceled, AlertLevel.warning)
    client.identify()
    client.finish()


@violation("6.1 (user_canceled is a warning)", "unexpected_message", established=True, serves=Serves.MAY)
def flood_of_warnings_after_the_handshake(client: Client) -> None:
    client.shake()
    for _ in range(FLOOD):
        client.alert(AlertDescription.user_canceled, AlertLevel.warning)


# Other protocols


@violation("5 (RFC 6520 was not negotiated)", "unexpected_message")
def heartbeat_in_the_handshake(client: Client) -> None:
    client.greet()
    client.record(HEARTBEAT, b"\1\x40\0")


@violation("5 (RFC 6520 was not negotiated)", "unexpected_message", established=True)
def heartbeat_after_the_handshake(client: Client) -> None:
    client.shake()
    client.record(HEARTBEAT, b"\1\x40\0")


@violation("D.5", "protocol_version", "unexpected_message", "handshake_failure", alert_required=False)
def ssl_2_client_hello(client: Client) -> None:
    body = b"\1\0\2" + b"\0\3\0\0\0\x10" + b"\1\0\x80" + os.urandom(16)
    client.raw((0x8000 | len(body)).to_bytes(2) + body)


@violation("5", "unexpected_message", "protocol_version", "decode_error", alert_required=False)
def http_instead_of_tls(client: Client) -> None:
    client.raw(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n")


@violation("5", "unexpected_message")
def data_first(client: Client) -> None:
    client.raw(plain(DATA, PING))


# TLS 1.2


def suites(client: Client, *offered: int) -> ClientHello:
    hello = client.hello()
    hello.cipher_suites = [*offered, CipherSuite.TLS_EMPTY_RENEGOTIATION_INFO_SCSV]
    return hello


def refused_suites(name: str, offered: Sequence[int]) -> None:
    def act(client: Client) -> None:
        client.say(suites(client, *offered))

    act.__name__ = f"tls_1_2_{name}"
    violation("RFC 5246 7.4.1.3, RFC 9325 4.1", "handshake_failure", "insufficient_security", version=V1_2)(act)


refused_suites("null_suites", [0x0001, 0x0002, 0x003B, 0xC006, 0xC010])
refused_suites("rc4_suites", [0x0004, 0x0005, 0xC007, 0xC011])
refused_suites("export_suites", [0x0003, 0x0006, 0x0008, 0x000B, 0x000E, 0x0011, 0x0014, 0x0017])
refused_suites("anonymous_suites", [0x0018, 0x0034, 0x006C, 0x00A6, 0xC015, 0xC018])
refused_suites("triple_des_suites", [0x000A, 0x0016, 0xC008, 0xC012])


@violation("RFC 5246 7.4.1.2", "decode_error", "illegal_parameter", "handshake_failure", version=V1_2)
def tls_1_2_compression_only(client: Client) -> None:
    hello = client.hello()
    hello.compression_methods = [1]
    client.say(hello)


@violation("RFC 5246 7.4.9", "decrypt_error", version=V1_2)
def tls_1_2_wrong_finished(client: Client) -> None:
    client.greet()
    client.identify()
    client.change_cipher_spec()
    client.record(HANDSHAKE, client.finished_message(spoilt=True))


@violation("RFC 5246 7.4.9", "unexpected_message", version=V1_2)
def tls_1_2_finished_before_change_cipher_spec(client: Client) -> None:
    client.greet()
    client.identify()
    client.record(HANDSHAKE, client.finished_message())


@violation("RFC 5246 7.1", "unexpected_message", version=V1_2)
def tls_1_2_change_cipher_spec_before_the_key_exchange(client: Client) -> None:
    client.greet()
    client.record(CCS, b"\1")


@violation("RFC 5246 7.4.8", "unexpected_message", "handshake_failure", version=V1_2)
def tls_1_2_certificate_without_certificate_verify(client: Client) -> None:
    client.greet()
    client.say(client.certificate_message())
    client.exchange_keys()
    client.change_cipher_spec()
    client.say(client.finished_message())


@violation("RFC 5246 7.4.8", "decrypt_error", version=V1_2)
def tls_1_2_certificate_verify_with_a_bad_signature(client: Client) -> None:
    client.greet()
    client.say(client.certificate_message())
    client.exchange_keys()
    client.say(client.verify_message(spoilt=True))


@violation("RFC 5246 7.4.6", "handshake_failure", version=V1_2)
def tls_1_2_empty_certificate(client: Client) -> None:
    client.greet()
    client.say(client.certificate_message([]))
    client.exchange_keys()


@violation("RFC 5246 7.4.6", "unexpected_message", "handshake_failure", version=V1_2)
def tls_1_2_no_certificate(client: Client) -> None:
    client.greet()
    client.exchange_keys()


@violation("RFC 5246 7.2.2", "bad_certificate", "decode_error", "unsupported_certificate", version=V1_2)
def tls_1_2_certificate_that_is_no_der(client: Client) -> None:
    client.greet()
    client.say(client.certificate_message([b"no certificate"]))


@violation("RFC 5246 7.4.7", "unexpected_message", version=V1_2)
def tls_1_2_key_exchange_twice(client: Client) -> None:
    client.greet()
    client.say(client.certificate_message())
    client.exchange_keys()
    client.say(client.key_exchange_message())


@violation("RFC 8422 5.7", "illegal_parameter", "decode_error", "handshake_failure", version=V1_2)
def tls_1_2_point_that_is_not_on_the_curve(client: Client) -> None:
    client.greet()
    client.say(client.certificate_message())
    client.say(handshake_message(HandshakeType.client_key_exchange, b"\x41\4" + b"\7" * 64))


@violation("RFC 5246 7.4.9", "unexpected_message", version=V1_2)
def tls_1_2_data_before_finished(client: Client) -> None:
    client.greet()
    client.identify()
    client.change_cipher_spec()
    client.record(DATA, PING)


@violation("RFC 5246 6.2.3.3", "bad_record_mac", version=V1_2, established=True)
def tls_1_2_bad_tag(client: Client) -> None:
    client.shake()
    client.raw(with_last_bit_turned(client.sealed(DATA, PING)))


@violation("RFC 5246 6.2.3", "record_overflow", "bad_record_mac", version=V1_2, established=True)
def tls_1_2_ciphertext_longer_than_any_record(client: Client) -> None:
    client.shake()
    client.raw(plain(DATA, os.urandom(MAX_PLAINTEXT + 2049)))


@violation("RFC 5246 6.2.3.2", "bad_record_mac", "handshake_failure", version=V1_2, established=True)
def tls_1_2_cbc_with_bad_padding(client: Client) -> None:
    """If the server does not support CBC, the handshake fails, which is the better reaction."""
    client.suite = CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256
    client.shake()
    record = client.sealed(DATA, PING)
    client.raw(record[:-17] + bytes([record[-17] ^ 1]) + record[-16:])


@violation(
    "RFC 5246 7.2.2, RFC 5746",
    "no_renegotiation",
    "unexpected_message",
    "handshake_failure",
    version=V1_2,
    established=True,
    serves=Serves.MAY,
)
def tls_1_2_renegotiation(client: Client) -> None:
    client.shake()
    client.record(HANDSHAKE, bytes(client.hello().write()))


@violation("RFC 5246 6.2.1", "unexpected_message", "decode_error", version=V1_2)
def tls_1_2_zero_length_handshake_record(client: Client) -> None:
    client.greet()
    client.raw(plain(HANDSHAKE, b"") * FLOOD)


@violation("RFC 5246 7.1", "unexpected_message", version=V1_2, established=True)
def tls_1_2_change_cipher_spec_after_the_handshake(client: Client) -> None:
    client.shake()
    client.record(CCS, b"\1")


@violation("RFC 5246 7.1", "unexpected_message", "decode_error", "illegal_parameter", version=V1_2)
def tls_1_2_change_cipher_spec_of_another_value(client: Client) -> None:
    client.greet()
    client.identify()
    client.record(CCS, b"\2")


@violation("RFC 5246 7.1", "unexpected_message", version=V1_2)
def tls_1_2_change_cipher_spec_twice(client: Client) -> None:
    client.greet()
    client.identify()
    client.change_cipher_spec()
    client.record(CCS, b"\1")


@violation("RFC 5246 7.2", "unexpected_message", version=V1_2, established=True, serves=Serves.MAY)
def tls_1_2_flood_of_warnings(client: Client) -> None:
    client.shake()
    for _ in range(FLOOD):
        client.alert(AlertDescription.user_canceled, AlertLevel.warning)


@violation("RFC 5246 7.2.1", version=V1_2, established=True)
def tls_1_2_data_after_close_notify(client: Client) -> None:
    client.shake()
    client.alert(AlertDescription.close_notify, AlertLevel.warning)
    client.record(DATA, PING)


@violation("RFC 5246 6.2.1", "unexpected_message", version=V1_2, established=True)
def tls_1_2_record_of_unknown_type(client: Client) -> None:
    client.shake()
    client.record(UNKNOWN, PING)


@violation("RFC 5246 7.4.1.1 (of a client)", "unexpected_message", version=V1_2, established=True)
def tls_1_2_hello_request_of_a_client(client: Client) -> None:
    client.shake()
    client.record(HANDSHAKE, handshake_message(0, b""))
