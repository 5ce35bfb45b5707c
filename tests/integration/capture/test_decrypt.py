"""Real handshakes of OpenSSL in memory, decrypted: messages and plaintext are what OpenSSL says that it sent."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest

from meshtls.capture.events import AlertSeen, ApplicationBytes, MessageSeen, Trouble
from meshtls.capture.keylog import KeyLog
from meshtls.capture.outside import Answer, outside_view
from meshtls.capture.session import Epoch, TlsSession
from meshtls.wire.side import Side
from meshtls.wire.tls import HandshakeType
from tests.support.tls_wire import Wire, contexts, play

REQUEST, RESPONSE = b"a request", b"a response" * 5000
#: What this OpenSSL offers with a certificate for ECDSA, for RSA, or without one.
KINDS = {"ECDSA": "P-256", "RSA": "RSA"}
NOT_DECRYPTED = "ARIA"


def _suites() -> Sequence[tuple[str, str]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:eNULL:@SECLEVEL=0")
    found = []
    for one in context.get_ciphers():
        text = str(one["description"])
        if "AEAD" in text and "TLSv1.2" in text and "PSK" not in text and "Au=DSS" not in text:
            found.append((str(one["name"]), "P-256" if "Au=ECDSA" in text else "RSA"))
    return found


SUITES = _suites()


def noted(
    made: tuple[ssl.SSLContext, ssl.SSLContext], session: ssl.SSLSession | None = None
) -> tuple[Wire, list[tuple[Side, bytes]]]:
    """Two ends, and the handshake messages of both as OpenSSL tells its client of them, as they come."""
    client, server = made
    seen: list[tuple[Side, bytes]] = []

    def note(_: object, direction: str, _version: object, content: int, _kind: object, data: bytes) -> None:
        if content == 22:
            seen.append((Side.CLIENT if direction == "write" else Side.SERVER, data))

    client._msg_callback = note  # type: ignore[attr-defined]
    return Wire(client, server, session), seen


def exchanged(wire: Wire) -> None:
    wire.send(Side.CLIENT, REQUEST)
    wire.send(Side.SERVER, RESPONSE)
    wire.close()


def shown(session: TlsSession, side: Side) -> bytes:
    return b"".join(
        one.plaintext or b"" for one in session.events if isinstance(one, ApplicationBytes) and one.side is side
    )


def troubles(session: TlsSession) -> list[Trouble]:
    return [one for one in session.events if isinstance(one, Trouble)]


def check(session: TlsSession, seen: list[tuple[Side, bytes]]) -> None:
    """The session has all messages of each side in order, the plaintext, and both close_notify."""
    assert troubles(session) == []
    for side in Side:
        found = [one.data for one in session.events if isinstance(one, MessageSeen) and one.side is side]
        assert found == [data for sender, data in seen if sender is side]
    assert (shown(session, Side.CLIENT), shown(session, Side.SERVER)) == (REQUEST, RESPONSE)
    alerts = [
        (one.side, one.level, one.description, one.decrypted) for one in session.events if isinstance(one, AlertSeen)
    ]
    assert alerts == [(Side.CLIENT, 1, 0, True), (Side.SERVER, 1, 0, True)]


def session_of(wire: Wire, keylog: Path, *, cut: int = 0) -> TlsSession:
    session = TlsSession(KeyLog(keylog.read_bytes()))
    play(session, wire.flights, cut=cut)
    return session


def test_this_openssl_has_suites_of_each_kind() -> None:
    names = " ".join(name for name, _ in SUITES)
    for part in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20", "CCM8", "CCM ", "DHE-RSA", "ADH"):
        assert part in names


@pytest.mark.parametrize(("name", "kind"), [one for one in SUITES if NOT_DECRYPTED not in one[0]])
def test_each_suite_of_tls_1_2_with_an_aead_is_decrypted(name: str, kind: str, tmp_path: Path) -> None:
    keylog = tmp_path / "keys.log"
    client, server = contexts(tmp_path, keylog, kind=kind, ciphers=f"{name}:@SECLEVEL=0", version=2)
    if name.startswith("ADH"):
        client.verify_mode = ssl.CERT_NONE
    wire, seen = noted((client, server))
    assert wire.shake() == {}
    exchanged(wire)
    for cut in (0, 1):
        session = session_of(wire, keylog, cut=cut)
        check(session, seen)
        assert session.version == 0x0303


#: A suite of AES-CBC with each hash and length of the key.
CBC = (
    *("ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-SHA", "ECDHE-RSA-AES128-SHA256", "ECDHE-RSA-AES256-SHA384"),
    *("AES128-SHA256", "AES256-SHA"),
)
#: SSL_OP_NO_ENCRYPT_THEN_MAC.
NO_ENCRYPT_THEN_MAC = 1 << 19


@pytest.mark.parametrize("then_mac", [True, False])
@pytest.mark.parametrize("name", CBC)
def test_suites_of_cbc_are_decrypted_with_the_mac_before_or_after(name: str, then_mac: bool, tmp_path: Path) -> None:
    keylog = tmp_path / "keys.log"
    client, server = contexts(tmp_path, keylog, kind="RSA", ciphers=f"{name}:@SECLEVEL=0", version=2)
    if not then_mac:
        client.options |= NO_ENCRYPT_THEN_MAC
    wire, seen = noted((client, server))
    assert wire.shake() == {}
    exchanged(wire)
    # The extension is in the ServerHello, if it is in use.
    assert (b"\x00\x16\x00\x00" in wire.flights[1][1][:200]) is then_mac
    for cut in (0, 1):
        check(session_of(wire, keylog, cut=cut), seen)
    # One record that was altered is told, and the next ones open.
    last = max(at for at, (side, data) in enumerate(wire.flights) if side is Side.CLIENT and data[0] == 23)
    side, data = wire.flights[last]
    wire.flights[last] = side, data[:-1] + bytes((data[-1] ^ 1,))
    session = session_of(wire, keylog)
    (trouble,) = troubles(session)
    assert (
        trouble.reason == "no key opens this record: it was altered, or the key log's secret is not this connection's"
    )
    assert (shown(session, Side.CLIENT), shown(session, Side.SERVER)) == (b"", RESPONSE)


@pytest.mark.parametrize("name", ["ECDHE-ARIA128-GCM-SHA256", "CAMELLIA128-SHA"])
def test_a_suite_that_is_not_decrypted_is_told_and_lengths_are_read(name: str, tmp_path: Path) -> None:
    keylog = tmp_path / "keys.log"
    wire = Wire(*contexts(tmp_path, keylog, kind="RSA", ciphers=f"{name}:@SECLEVEL=0", version=2))
    assert wire.shake() == {}
    exchanged(wire)
    session = session_of(wire, keylog)
    (trouble,) = troubles(session)
    assert trouble.side is Side.SERVER
    assert trouble.reason.startswith("records of the suite TLS_")
    assert trouble.reason.endswith(" in TLS 1.2 are not decrypted here, with keys neither: only lengths are read")
    assert shown(session, Side.SERVER) == b""
    assert session.direction(Side.SERVER).application_bytes > len(RESPONSE)


@pytest.mark.parametrize("mutual", [False, True])
@pytest.mark.parametrize("kind", ["P-256", "RSA"])
@pytest.mark.parametrize("cut", [0, 1, 1000])
def test_tls_1_3_is_decrypted(kind: str, mutual: bool, cut: int, tmp_path: Path) -> None:
    keylog = tmp_path / "keys.log"
    wire, seen = noted(contexts(tmp_path, keylog, kind=kind, mutual=mutual, version=3))
    assert wire.shake() == {}
    exchanged(wire)
    session = session_of(wire, keylog, cut=cut)
    check(session, seen)
    assert (session.version, session.suite, session.retried, session.psk) == (0x0304, 0x1302, False, False)
    view = outside_view(session)
    wanted = Answer.YES if mutual else Answer.NO
    assert (view.mutual, view.resumed) == (wanted, Answer.NO)


def test_a_hello_retry_request_is_followed(tmp_path: Path) -> None:
    keylog = tmp_path / "keys.log"
    client, server = contexts(tmp_path, keylog, mutual=True, version=3)
    server.set_ecdh_curve("secp384r1")
    wire, seen = noted((client, server))
    assert wire.shake() == {}
    exchanged(wire)
    session = session_of(wire, keylog, cut=3)
    check(session, seen)
    assert session.retried
    kinds = [one.kind for one in session.events if isinstance(one, MessageSeen)]
    assert kinds[:4] == [1, 2, 1, 2]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("mutual", [False, True])
def test_a_resumed_session_is_decrypted_and_told(version: int, mutual: bool, tmp_path: Path) -> None:
    keylog = tmp_path / "keys.log"
    client, server = contexts(tmp_path, keylog, mutual=mutual, version=version)
    first = Wire(client, server)
    assert first.shake() == {}
    exchanged(first)
    wire, seen = noted((client, server), first.client.session)
    assert wire.shake() == {}
    assert wire.client.session_reused
    exchanged(wire)
    session = session_of(wire, keylog)
    check(session, seen)
    view = outside_view(session)
    assert (view.resumed, view.mutual) == (Answer.YES, Answer.UNKNOWN)
    assert view.evidence == "the session is resumed: certificates were sent in an earlier connection"
    assert outside_view(session_of(first, keylog)).resumed is Answer.NO


@pytest.mark.parametrize("version", [2, 3])
def test_a_client_without_a_certificate_is_seen_to_be_refused(version: int, tmp_path: Path) -> None:
    keylog = tmp_path / "keys.log"
    _, server = contexts(tmp_path, keylog, mutual=True, version=version)
    client, _ = contexts(tmp_path, keylog, version=version)
    wire = Wire(client, server)
    assert set(wire.shake()) == {Side.CLIENT, Side.SERVER}
    session = session_of(wire, keylog)
    assert troubles(session) == []
    alerts = [one for one in session.events if isinstance(one, AlertSeen)]
    wanted = 116 if version == 3 else 40
    assert [(one.side, one.level, one.description) for one in alerts] == [(Side.SERVER, 2, wanted)]
    view = outside_view(session)
    assert (view.mutual, view.evidence) == (Answer.NO, "the client was asked for a certificate and sent none")


def test_the_keys_follow_the_epochs(tmp_path: Path) -> None:
    keylog = tmp_path / "keys.log"
    wire = Wire(*contexts(tmp_path, keylog, version=3))
    assert wire.shake() == {}
    session = TlsSession(KeyLog(keylog.read_bytes()))
    epochs = []
    for side, data in wire.flights:
        session.feed(side, data, 1)
        epochs.append((session.direction(Side.CLIENT).epoch, session.direction(Side.SERVER).epoch))
    assert epochs[:3] == [
        (Epoch.CLEAR, Epoch.CLEAR),
        (Epoch.CLEAR, Epoch.APPLICATION),
        (Epoch.APPLICATION, Epoch.APPLICATION),
    ]


def test_without_keys_only_lengths_are_read_and_nothing_is_kept(tmp_path: Path) -> None:
    wire = Wire(*contexts(tmp_path, tmp_path / "keys.log", mutual=True, version=3))
    assert wire.shake() == {}
    exchanged(wire)
    session = TlsSession(None)
    play(session, wire.flights, cut=100)
    assert troubles(session) == []
    assert [one.kind for one in session.events if isinstance(one, MessageSeen)] == [1, 2]
    assert not [one for one in session.events if isinstance(one, ApplicationBytes)]
    for side in Side:
        one = session.direction(side)
        assert (one.opaque, one.decrypted) == (True, 0)
        assert one.record_bytes == sum(len(data) for sender, data in wire.flights if sender is side)
    view = outside_view(session)
    assert (view.mutual, view.likely) == (Answer.UNKNOWN, Answer.YES)
    assert [side for side, _ in view.alerts] == [Side.CLIENT, Side.SERVER]


@pytest.mark.parametrize(
    ("asked", "has", "likely", "evidence"),
    [
        (True, True, Answer.YES, "room for a certificate before its Finished"),
        (True, False, Answer.NO, "the length of a Certificate message without a certificate"),
        (False, True, Answer.NO, "the length of a Finished alone"),
    ],
)
def test_lengths_suggest_whether_the_client_sent_a_certificate(
    asked: bool, has: bool, likely: Answer, evidence: str, tmp_path: Path
) -> None:
    keylog = tmp_path / "keys.log"
    client, server = contexts(tmp_path, keylog, mutual=True, version=3)
    if not has:
        client, _ = contexts(tmp_path, keylog, version=3)
    server.verify_mode = ssl.CERT_OPTIONAL if asked else ssl.CERT_NONE
    wire = Wire(client, server)
    assert wire.shake() == {}
    for keys in (None, KeyLog()):
        session = TlsSession(keys)
        play(session, wire.flights)
        view = outside_view(session)
        assert (view.mutual, view.likely) == (Answer.UNKNOWN, likely)
        assert view.evidence.endswith(evidence)
    # With the keys the same is known, and no longer likely only.
    assert outside_view(session_of(wire, keylog)).mutual is likely


@pytest.mark.parametrize("mutual", [False, True])
def test_tls_1_2_shows_its_certificates_without_keys(mutual: bool, tmp_path: Path) -> None:
    wire = Wire(*contexts(tmp_path, tmp_path / "keys.log", mutual=mutual, version=2))
    assert wire.shake() == {}
    exchanged(wire)
    session = TlsSession(None)
    play(session, wire.flights)
    assert troubles(session) == []
    view = outside_view(session)
    assert (view.mutual, view.resumed) == (Answer.YES if mutual else Answer.NO, Answer.NO)
    kinds = {one.kind for one in session.events if isinstance(one, MessageSeen) and one.side is Side.CLIENT}
    assert (HandshakeType.CERTIFICATE in kinds) is mutual
    # The alerts that end it are encrypted, but are known to be alerts.
    alerts = [(one.side, one.description) for one in session.events if isinstance(one, AlertSeen)]
    assert alerts == [(Side.CLIENT, -1), (Side.SERVER, -1)]
