"""A TLS client whose every message a test can change, omit or repeat.

It uses tlslite-ng's records, messages and key schedule, but not its state machine. TLS 1.3 is spoken with X25519 and
AES-128-GCM, TLS 1.2 with ECDHE on P-256.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tlslite.constants import (
    AlertDescription,
    AlertLevel,
    CertificateType,
    CipherSuite,
    ContentType,
    ExtensionType,
    GroupName,
    HandshakeType,
    SignatureScheme,
)
from tlslite.defragmenter import Defragmenter
from tlslite.errors import TLSAbruptCloseError
from tlslite.extensions import (
    ClientKeyShareExtension,
    KeyShareEntry,
    SignatureAlgorithmsExtension,
    SupportedGroupsExtension,
    SupportedVersionsExtension,
    TLSExtension,
)
from tlslite.handshakehashes import HandshakeHashes
from tlslite.keyexchange import ECDHKeyExchange
from tlslite.mathtls import calc_key
from tlslite.messages import (
    Certificate,
    CertificateVerify,
    ClientHello,
    ClientKeyExchange,
    Finished,
    Message,
    NewSessionTicket,
    ServerHello,
    ServerKeyExchange,
)
from tlslite.messagesocket import MessageSocket
from tlslite.utils.codec import Parser
from tlslite.utils.cryptomath import HKDF_expand_label, derive_secret, secureHMAC
from tlslite.x509certchain import X509CertChain

from meshtls.svid.x509 import X509Svid

__all__ = ["HASH", "V1_2", "V1_3", "Answer", "Client", "Refused", "handshake_message"]

V1_2, V1_3 = (3, 3), (3, 4)
GCM = CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
AES_128 = CipherSuite.TLS_AES_128_GCM_SHA256
ECDSA_SHA256 = SignatureScheme.ecdsa_secp256r1_sha256
HASH = 32  # bytes of SHA-256
_PURE = ["python"]


def handshake_message(kind: int, body: bytes) -> bytes:
    """RFC 8446, section 4: type, 24-bit length, body."""
    return bytes([kind]) + len(body).to_bytes(3) + body


@dataclass(slots=True)
class Answer:
    """The server's output until the connection ended. ``end`` is EOF, reset or silence (no end in time)."""

    alerts: list[str] = field(default_factory=list)
    data: bytes = b""
    end: str = "silence"

    def __str__(self) -> str:
        said = [*self.alerts, *(["data"] if self.data else []), self.end]
        return ", ".join(said)


@dataclass(frozen=True, slots=True)
class _Der:
    """A certificate for tlslite's messages, with any bytes."""

    der: bytes

    def writeBytes(self) -> bytes:  # noqa: N802  # tlslite's name
        return self.der


class Client:
    """One connection.

    - ``..._message`` methods return a handshake message for the present transcript.
    - ``say`` sends a handshake message and adds it to the transcript.
    - ``record`` sends any record, with the connection's present protection.
    """

    def __init__(self, sock: socket.socket, version: tuple[int, int], svid: X509Svid) -> None:
        self.socket, self.version, self.svid = sock, version, svid
        messages = Defragmenter()
        messages.add_static_size(ContentType.alert, 2)
        messages.add_static_size(ContentType.change_cipher_spec, 1)
        messages.add_dynamic_size(ContentType.handshake, 1, 3)
        self.layer = MessageSocket(sock, messages)
        self.layer.client = True
        self.layer.version = V1_2
        self.transcript = bytearray()
        self.offered: ClientHello | None = None
        self.suite = AES_128 if version == V1_3 else GCM
        self._group = GroupName.x25519 if version == V1_3 else GroupName.secp256r1
        self._exchange = ECDHKeyExchange(self._group, version)
        self._private = self._exchange.get_random_private_key()
        self.public = bytes(self._exchange.calc_public_value(self._private))
        self._secret = bytearray()
        self._traffic: tuple[bytearray, bytearray] = bytearray(), bytearray()

    # The messages of a good client.

    def hello(self) -> ClientHello:
        """A good ClientHello, which a case may change before it is sent."""
        extensions = [
            SupportedGroupsExtension().create([self._group]),
            SignatureAlgorithmsExtension().create([ECDSA_SHA256]),
        ]
        if self.version == V1_3:
            share = KeyShareEntry().create(self._group, self.public)
            extensions += [
                SupportedVersionsExtension().create([V1_3]),
                ClientKeyShareExtension().create([share]),
            ]
        else:
            extensions.append(TLSExtension().create(ExtensionType.ec_point_formats, bytearray(b"\x01\x00")))
        suites = [self.suite, CipherSuite.TLS_EMPTY_RENEGOTIATION_INFO_SCSV]
        return ClientHello().create(V1_2, bytearray(os.urandom(32)), bytearray(32), suites, extensions=extensions)

    def certificate_message(self, ders: Sequence[bytes] | None = None, context: bytes = b"") -> bytes:
        """Certificate; our own chain unless given."""
        chain = [one.public_bytes(Encoding.DER) for one in self.svid.chain] if ders is None else ders
        message = Certificate(CertificateType.x509, self.version)
        return bytes(message.create(X509CertChain([_Der(der) for der in chain]), context).write())

    def verify_message(self, scheme: tuple[int, int] = ECDSA_SHA256, *, spoilt: bool = False) -> bytes:
        """CertificateVerify: RFC 8446, section 4.4.3; RFC 5246, section 7.4.8."""
        signed = bytes(self.transcript)
        if self.version == V1_3:
            signed = b" " * 64 + b"TLS 1.3, client CertificateVerify\0" + hashlib.sha256(signed).digest()
        key = self.svid.private_key
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        signature = key.sign(signed + b"spoilt" * spoilt, ec.ECDSA(hashes.SHA256()))
        return bytes(CertificateVerify(V1_2).create(bytearray(signature), scheme).write())

    def finished_message(self, *, spoilt: bool = False, length: int | None = None) -> bytes:
        """Finished: RFC 8446, section 4.4.4; RFC 5246, section 7.4.9."""
        if self.version == V1_3:
            key = HKDF_expand_label(self._traffic[0], b"finished", b"", HASH, "sha256")
            proof = secureHMAC(key, bytearray(hashlib.sha256(self.transcript).digest()), "sha256")
        else:
            proof = calc_key(V1_2, self._secret, self.suite, b"client finished", self._hashes(), output_length=12)
        proof = proof[:length]
        proof[0] ^= spoilt
        return bytes(Finished(self.version, HASH).create(proof).write())

    def key_exchange_message(self) -> bytes:
        """TLS 1.2's ClientKeyExchange."""
        return bytes(ClientKeyExchange(self.suite, V1_2).createECDH(bytearray(self.public)).write())

    # Sending.

    def say(self, message: ClientHello | bytes) -> None:
        """Send one handshake message in its own record. The server's flight is read for the last ClientHello sent."""
        if isinstance(message, ClientHello):
            self.offered, message = message, bytes(message.write())
        self.transcript += message
        self.record(ContentType.handshake, message)

    def record(self, kind: int, payload: bytes) -> None:
        for _ in self.layer.sendRecord(Message(kind, bytearray(payload))):
            pass

    def raw(self, data: bytes) -> None:
        """Send these bytes unchanged, past the record layer."""
        self.socket.sendall(data)

    def alert(self, description: int, level: int = AlertLevel.fatal) -> None:
        self.record(ContentType.alert, bytes((level, description)))

    def sealed(self, kind: int, payload: bytes) -> bytes:
        """The record that ``record`` would send, for a case to change; its sequence number is used up."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.layer._recordSocket.sock = ours
            try:
                self.record(kind, payload)
            finally:
                self.layer._recordSocket.sock = self.socket
            ours.shutdown(socket.SHUT_WR)
            with theirs.makefile("rb") as whole:
                return whole.read()

    def change_cipher_spec(self) -> None:
        """TLS 1.2: send ChangeCipherSpec; the following records are protected."""
        self.record(ContentType.change_cipher_spec, b"\x01")
        self.layer.changeWriteState()

    # The phases of a good handshake.

    def greet(self, hello: ClientHello | None = None) -> None:
        """Send ClientHello and read the server's whole flight; in TLS 1.3, the following records are protected.

        Raises Refused if the server answers with an alert.
        """
        self.say(hello or self.hello())
        self.meet()

    def meet(self) -> None:
        """Read the server's flight."""
        hello = ServerHello().parse(self._expect(HandshakeType.server_hello))
        if self.version == V1_3:
            self._meet_1_3(hello)
        else:
            self._meet_1_2(hello)

    def identify(self) -> None:
        """Certificate, with ClientKeyExchange in TLS 1.2, and CertificateVerify."""
        self.say(self.certificate_message())
        if self.version == V1_2:
            self.exchange_keys()
        self.say(self.verify_message())

    def exchange_keys(self) -> None:
        """TLS 1.2: ClientKeyExchange, and the derived keys."""
        self.say(self.key_exchange_message())
        self.derive_keys()

    def derive_keys(self) -> None:
        """TLS 1.2: the keys of this key exchange, for the records after ChangeCipherSpec."""
        assert self.offered is not None
        randoms = self.offered.random, self._server_random
        self._secret = calc_key(
            V1_2,
            self._premaster,
            self.suite,
            b"master secret",
            client_random=randoms[0],
            server_random=randoms[1],
            output_length=48,
        )
        self.layer.calcPendingStates(self.suite, self._secret, *randoms, _PURE)

    def finish(self) -> None:
        """Send Finished, and in TLS 1.2 read the server's; application data is next."""
        if self.version == V1_2:
            self.change_cipher_spec()
            self.say(self.finished_message())
            while self._next()[0] != ContentType.change_cipher_spec:
                pass  # a ticket
            self.layer.changeReadState()
            self._expect(HandshakeType.finished)
            return
        self.say(self.finished_message())
        self.layer.changeWriteState()

    def shake(self) -> None:
        """The whole handshake, as a good client does it."""
        self.greet()
        self.identify()
        self.finish()

    def ticket(self) -> bytes:
        """TLS 1.3, after the handshake: the ticket of the server's next NewSessionTicket."""
        return bytes(NewSessionTicket().parse(self._expect(HandshakeType.new_session_ticket)).ticket)

    def answer(self, wanted: int | None = None) -> Answer:
        """Read to the end, or until this many bytes of application data have arrived."""
        answer = Answer()
        try:
            while wanted is None or len(answer.data) < wanted:
                kind, content = self._next()
                if kind == ContentType.alert:
                    answer.alerts.append(AlertDescription.toStr(content.bytes[1]))
                elif kind == ContentType.application_data:
                    answer.data += bytes(content.bytes)
        except TLSAbruptCloseError:
            answer.end = "EOF"
        except ConnectionError:
            answer.end = "reset"
        except TimeoutError:
            pass
        else:
            answer.end = "open"
        return answer

    # Reading.

    def _next(self) -> tuple[int, Any]:
        header, content = self.layer.recvMessageBlocking()
        return header.type, content

    def _expect(self, message: int) -> Any:
        """The next handshake message, which must have this type, as a parser positioned after the type."""
        kind, content = self._next()
        if kind == ContentType.change_cipher_spec and self.version == V1_3:
            return self._expect(message)
        if kind == ContentType.alert:
            raise Refused(AlertDescription.toStr(content.bytes[1]))
        assert kind == ContentType.handshake, f"wanted a handshake message, got a record of type {kind}"
        assert content.bytes[0] == message, f"wanted handshake message {message}, got {content.bytes[0]}"
        self.transcript += content.bytes
        return Parser(content.bytes[1:])

    def _meet_1_3(self, hello: ServerHello) -> None:
        self.layer.version, self.layer.tls13record = V1_3, True
        shared = self._exchange.calc_shared_key(
            self._private, hello.getExtension(ExtensionType.key_share).server_share.key_exchange
        )
        early = secureHMAC(bytearray(HASH), bytearray(HASH), "sha256")
        secret = secureHMAC(derive_secret(early, bytearray(b"derived"), None, "sha256"), shared, "sha256")
        self._traffic = self._traffic_secrets(secret, "hs")
        self.layer.calcTLS1_3PendingState(self.suite, *self._traffic, _PURE)
        self.layer.changeReadState()
        for message in (
            HandshakeType.encrypted_extensions,
            HandshakeType.certificate_request,
            HandshakeType.certificate,
            HandshakeType.certificate_verify,
            HandshakeType.finished,
        ):
            self._expect(message)
        self.layer.changeWriteState()
        derived = derive_secret(secret, bytearray(b"derived"), None, "sha256")
        self._secret = secureHMAC(derived, bytearray(HASH), "sha256")
        # The server writes with these keys from its Finished on, also its alerts about the rest of the handshake.
        self.layer.calcTLS1_3PendingState(self.suite, *self._traffic_secrets(self._secret, "ap"), _PURE)
        self.layer.changeReadState()

    def _meet_1_2(self, hello: ServerHello) -> None:
        self._server_random = hello.random
        self._expect(HandshakeType.certificate)
        exchange = ServerKeyExchange(self.suite, V1_2).parse(self._expect(HandshakeType.server_key_exchange))
        self._premaster = self._exchange.calc_shared_key(self._private, exchange.ecdh_Ys)
        self._expect(HandshakeType.certificate_request)
        self._expect(HandshakeType.server_hello_done)

    def _traffic_secrets(self, secret: bytearray, phase: str) -> tuple[bytearray, bytearray]:
        labels = (bytearray(f"{side} {phase} traffic".encode()) for side in "cs")
        client, server = (derive_secret(secret, label, self._hashes(), "sha256") for label in labels)
        return client, server

    def _hashes(self) -> HandshakeHashes:
        hashed = HandshakeHashes()
        hashed.update(self.transcript)
        return hashed


class Refused(Exception):  # noqa: N818  # it is the server's answer and no error of ours
    """The server answered with an alert, and the case needs to continue."""
