"""Two of OpenSSL's connections in memory, and what they send as steps of ``tls_states``, seen from four places.

``wire``: a message is when it is sent. ``client``, ``server``: the other side's is when it is received. These know what
is encrypted, from OpenSSL. ``outside`` reads records alone, without keys, and may change what is not encrypted.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from meshtls.tls.peer import watch_messages
from meshtls.wire.side import Side
from meshtls.wire.tls.assembling import MessageAssembler
from meshtls.wire.tls.names import ContentType
from meshtls.wire.tls.records import Record, RecordReader
from meshtls.wire.tls_following import TlsStates
from meshtls.wire.tls_states import Event, Step
from meshtls.wire.tls_steps import TlsSteps
from tests.support.certs import Issued, ca, key, leaf

__all__ = ["VIEWS", "Change", "Pair", "View", "context", "events_shown", "write_certificates"]

CLIENT, SERVER = Side
VIEWS = ("wire", "client", "server", "outside")
#: The types that OpenSSL's callback has for a record's header, and for the content type inside of one of TLS 1.3.
_RECORD_HEADER, _INNER_TYPE = 256, 257
_ROUNDS = 8
#: What goes on instead of a message that is not encrypted.
Change = Callable[[Side, bytes], Iterable[bytes]]


def write_certificates(directory: Path) -> None:
    """A root, an identity below it, one with an RSA key, and one of a root that nobody trusts, each as ``NAME.pem``."""
    now = datetime.now(UTC)
    start, end = now - timedelta(hours=1), now + timedelta(hours=1)
    root = ca(None, not_before=start, not_after=end)
    foreign = ca(None, slot="foreign", name="foreign", not_before=start, not_after=end)
    made = {
        "root": root,
        "leaf": leaf(root, "spiffe://a.test/web", not_before=start, not_after=end),
        "rsa": leaf(
            root,
            "spiffe://a.test/web",
            own_key=key("rsa", "RSA"),
            usages=("digital_signature", "key_encipherment"),
            not_before=start,
            not_after=end,
        ),
        "foreign": leaf(foreign, "spiffe://a.test/web", not_before=start, not_after=end),
    }
    for name, issued in made.items():
        (directory / f"{name}.pem").write_bytes(_pem(issued))


def _pem(issued: Issued) -> bytes:
    secret = issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return issued.certificate.public_bytes(Encoding.PEM) + secret


def context(
    side: Side,
    directory: Path,
    *,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    identity: str | None = "leaf",
    verify: ssl.VerifyMode = ssl.CERT_NONE,
    ciphers: str = "",
) -> ssl.SSLContext:
    """A plain context of this version alone, with the certificate and key in ``identity.pem``, if any."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if side is SERVER else ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = verify
    made.minimum_version = made.maximum_version = version
    if identity is not None:
        made.load_cert_chain(directory / f"{identity}.pem")
    made.load_verify_locations(directory / "root.pem")
    if ciphers:
        made.set_ciphers(ciphers)
    return made


class View(TlsStates):
    """The states that somebody sees, and all steps that led there."""

    __slots__ = ("all_steps", "first_illegal", "read")

    def __init__(self) -> None:
        super().__init__()
        #: The number of the first illegal step.
        self.first_illegal = -1
        self.read = TlsSteps()
        self.all_steps: list[Step] = []

    def see(self, side: Side, *events: Event) -> None:
        """These are sent, or received."""
        for event in events:
            self.all_steps.append((side, event))
            if self.step(side, event) is not None and self.first_illegal < 0:
                self.first_illegal = len(self.all_steps) - 1


class _Outside:
    """Reads and changes one side's records as they pass."""

    def __init__(self, side: Side, view: View, change: Change | None) -> None:
        self._side, self._view, self._change = side, view, change
        self._records, self._messages = RecordReader(side), MessageAssembler()
        self._changed_cipher = False

    def passed(self, data: bytes) -> bytes:
        """What goes on of this."""
        return b"".join(map(self._passed, self._records.feed(data)))

    def _passed(self, record: Record) -> bytes:
        kind, payload = record.content_type, record.payload
        side, view = self._side, self._view
        encrypted = self._changed_cipher and not view.read.is_1_3
        if kind == ContentType.HANDSHAKE and not encrypted:
            messages = self._messages.feed(payload)
            if self._change is not None:
                messages = [made for one in messages for made in self._change(side, one)]
            for message in messages:
                view.see(side, *view.read.of_message(side, message))
            return b"".join(_record(kind, record.version, message) for message in messages)
        if kind == ContentType.ALERT and not encrypted:
            view.see(side, view.read.of_alert(*payload))
        else:
            view.see(side, view.read.of_record(kind))
        self._changed_cipher |= kind == ContentType.CHANGE_CIPHER_SPEC
        return _record(kind, record.version, payload)


def _record(kind: int, version: int, payload: bytes) -> bytes:
    return bytes((kind,)) + version.to_bytes(2, "big") + len(payload).to_bytes(2, "big") + payload


class Pair:
    """A client and a server. Failures of TLS are in ``errors``."""

    def __init__(
        self,
        client: ssl.SSLContext,
        server: ssl.SSLContext,
        *,
        session: ssl.SSLSession | None = None,
        change: Change | None = None,
    ) -> None:
        self.views = {name: View() for name in VIEWS}
        self._bios = {side: (ssl.MemoryBIO(), ssl.MemoryBIO()) for side in Side}
        self._outside = {side: _Outside(side, self.views["outside"], change) for side in Side}
        watch_messages(client, self._watcher(CLIENT))
        watch_messages(server, self._watcher(SERVER))
        self.ends = {
            CLIENT: client.wrap_bio(*self._bios[CLIENT], session=session),
            SERVER: server.wrap_bio(*self._bios[SERVER], server_side=True),
        }
        self.errors: dict[Side, ssl.SSLError] = {}

    def _watcher(self, own: Side) -> Any:
        def watch(_connection: Any, direction: str, _version: int, kind: int, _message: int, data: bytes) -> None:
            sent = direction == "write"
            for name in (own.value, "wire") if sent else (own.value,):
                view, side = self.views[name], own if sent else own.other
                view.see(side, *events_shown(view.read, side, kind, data, sent=sent))

        return watch

    def end(self, side: Side, event: Event = Event.END) -> None:
        """One side's TCP ends, for all to see."""
        self.move()
        for view in self.views.values():
            view.see(side, event)
        self._bios[side.other][0].write_eof()

    def move(self) -> None:
        """What was sent arrives."""
        for side in Side:
            data = self._outside[side].passed(self._bios[side][1].read())
            if data:
                self._bios[side.other][0].write(data)

    def shake(self) -> Pair:
        """Run the handshake, and what is sent after it without being asked for."""
        for _ in range(_ROUNDS):
            for side in Side:
                if side not in self.errors:
                    self.run(side, self.ends[side].do_handshake)
                self.read(side)
                self.move()
        return self

    def run(self, side: Side, call: Callable[[], object]) -> None:
        """A call of TLS, which may fail."""
        try:
            call()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except ssl.SSLError as error:
            self.errors.setdefault(side, error)

    def read(self, side: Side) -> bytes:
        """What has arrived of the other side's data."""
        got: list[bytes] = []
        end = self.ends[side]
        if side not in self.errors and end.version() is not None:
            self.run(side, lambda: got.append(end.read(4096)))
        return b"".join(got)

    def send(self, side: Side, data: bytes = b"data") -> None:
        """Send data, and receive it."""
        self.ends[side].write(data)
        self.move()
        assert self.read(side.other) == data

    def close(self, side: Side) -> None:
        """Send close_notify, and receive it."""
        self.run(side, self.ends[side].unwrap)
        self.move()
        self.read(side.other)

    def states(self) -> set[str]:
        """The names of the states, seen from everywhere where all is known."""
        return {self.views[name].state.name for name in VIEWS if name != "outside"}

    def illegal(self) -> list[str]:
        """What any view has found illegal."""
        return [f"{name}: {view.illegal}" for name, view in self.views.items() if view.illegal is not None]


def events_shown(read: TlsSteps, side: Side, kind: int, data: bytes, *, sent: bool) -> list[Event]:
    """The events of what OpenSSL shows of a message, or of a record."""
    if kind == ContentType.HANDSHAKE:
        return read.of_message(side, data)
    if kind == ContentType.ALERT:
        return [read.of_alert(data[0], data[1])]
    # It shows a ChangeCipherSpec that it sends, and only the record of one that it receives.
    if kind == ContentType.CHANGE_CIPHER_SPEC or (
        kind == _RECORD_HEADER and data[0] == ContentType.CHANGE_CIPHER_SPEC and not sent
    ):
        return [Event.CHANGE_CIPHER_SPEC]
    # Application data has no message. Of its records in TLS 1.3 only what is inside tells them from others.
    tells = kind == _INNER_TYPE or (kind == _RECORD_HEADER and not read.is_1_3)
    return [Event.APPLICATION_DATA] if tells and data[0] == ContentType.APPLICATION_DATA else []
