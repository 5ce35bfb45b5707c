"""OpenSSL's handshakes follow the table of TLS's states, in each variant and from each view; broken ones do not."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from ssl import CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED

import pytest

from meshtls.wire.side import Side
from meshtls.wire.tls.names import HandshakeType
from meshtls.wire.tls_following import ClientAuth
from meshtls.wire.tls_states import Event, State
from tests.integration.wire.tls_pairs import VIEWS, Change, Pair, context, write_certificates
from tests.support.languages import NOTHING, derivative
from tests.unit.wire.tls_grammar import CONNECTION, STEPS

CLIENT, SERVER = Side
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = {"12": V12, "13": V13}
SYMBOLS = {step: symbol for symbol, step in STEPS.items()}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    write_certificates(directory)
    return directory


def contexts(
    at: Path,
    version: ssl.TLSVersion = V13,
    *,
    identity: str | None = "leaf",
    verify: ssl.VerifyMode = CERT_REQUIRED,
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Those of a client and of a server that verify each other, unless told otherwise."""
    client = context(CLIENT, at, version=version, identity=identity, verify=CERT_REQUIRED)
    return client, context(SERVER, at, version=version, verify=verify)


def passed(pair: Pair, *names: str) -> bool:
    """Whether all views were in one of these states, and none saw anything illegal."""
    assert pair.illegal() == []
    return all({State[name] for name in names} & pair.views[view].visited for view in VIEWS if view != "outside")


def resumed(at: Path, version: ssl.TLSVersion, change: Callable[[ssl.SSLContext], None] = lambda _: None) -> Pair:
    """The second connection of two, with the session of the first one. ``change`` is for the server's context."""
    client, server = contexts(at, version)
    first = Pair(client, server).shake()
    session = first.ends[CLIENT].session
    change(server)
    return Pair(client, server, session=session).shake()


# -- handshakes --


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("identity", "verify", "auth"),
    [
        ("leaf", CERT_NONE, ClientAuth.NOT_ASKED),
        ("leaf", CERT_OPTIONAL, ClientAuth.ANSWERED),
        ("leaf", CERT_REQUIRED, ClientAuth.ANSWERED),
        (None, CERT_OPTIONAL, ClientAuth.EMPTY),
    ],
)
def test_a_full_handshake_ends_open(
    certificates: Path, version: str, identity: str | None, verify: ssl.VerifyMode, auth: ClientAuth
) -> None:
    pair = Pair(*contexts(certificates, VERSIONS[version], identity=identity, verify=verify)).shake()
    assert (pair.errors, pair.illegal()) == ({}, [])
    assert pair.states() == {f"OPEN_{version}"}
    assert {pair.views[view].client_auth for view in ("wire", "client", "server")} == {auth}
    outside = pair.views["outside"]
    # Without keys, TLS 1.3 does not show whether the client was asked.
    assert (outside.state, outside.client_auth) == (
        (State.OPEN_12, auth) if version == "12" else (State.OPAQUE_OPEN, ClientAuth.UNKNOWN)
    )
    pair.send(CLIENT)
    pair.send(SERVER)
    assert pair.states() == {f"OPEN_{version}"}
    assert pair.illegal() == []


def test_without_a_server_key_exchange_a_handshake_of_tls_12_ends_open(certificates: Path) -> None:
    client, _ = contexts(certificates, V12)
    server = context(
        SERVER, certificates, version=V12, identity="rsa", verify=CERT_REQUIRED, ciphers="AES128-GCM-SHA256"
    )
    client.set_ciphers("AES128-GCM-SHA256")
    pair = Pair(client, server).shake()
    assert (pair.errors, pair.illegal(), pair.states()) == ({}, [], {"OPEN_12"})
    assert State.TLS12_KEY_EXCHANGE not in pair.views["wire"].visited


def test_a_session_of_tls_12_is_resumed_by_ticket(certificates: Path) -> None:
    pair = resumed(certificates, V12)
    assert pair.ends[CLIENT].session_reused
    assert passed(pair, "TLS12_RESUMED")
    assert pair.states() == {"OPEN_12"}
    assert pair.views["outside"].state is State.OPEN_12
    assert pair.views["outside"].client_auth is ClientAuth.RESUMED


def test_a_session_of_tls_12_is_resumed_by_session_id(certificates: Path) -> None:
    client, server = contexts(certificates, V12)
    server.options |= ssl.OP_NO_TICKET
    first = Pair(client, server).shake()
    assert State.TLS12_TICKET not in first.views["wire"].visited
    pair = Pair(client, server, session=first.ends[CLIENT].session).shake()
    assert pair.ends[CLIENT].session_reused
    assert passed(pair, "TLS12_RESUMED")
    assert not {State.TLS12_RESUMED_TICKET, State.TLS12_CERTIFICATE} & pair.views["wire"].visited
    assert pair.states() == {"OPEN_12"}


def test_a_session_of_tls_12_that_the_server_does_not_know_is_no_resumption(certificates: Path) -> None:
    client, server = contexts(certificates, V12)
    session = Pair(client, server).shake().ends[CLIENT].session
    pair = Pair(client, contexts(certificates, V12)[1], session=session).shake()
    assert passed(pair, "TLS12_HELLO")
    assert State.TLS12_RESUMED not in pair.views["outside"].visited
    assert pair.states() == {"OPEN_12"}


def test_a_session_of_tls_13_is_resumed_by_psk(certificates: Path) -> None:
    pair = resumed(certificates, V13)
    assert pair.ends[CLIENT].session_reused
    assert passed(pair, "TLS13_PSK")
    assert not {State.TLS13_CERTIFICATE, State.TLS13_REQUEST} & pair.views["wire"].visited
    assert pair.states() == {"OPEN_13"}
    assert State.TLS13_PSK in pair.views["outside"].visited  # the ServerHello shows it


def test_a_hello_retry_request_is_answered_by_a_second_hello(certificates: Path) -> None:
    client, server = contexts(certificates)
    server.set_ecdh_curve("secp384r1")  # of which the client sends no key share at first
    pair = Pair(client, server).shake()
    assert passed(pair, "RETRY")
    assert passed(pair, "SECOND_SERVER_HELLO")
    assert pair.states() == {"OPEN_13"}
    assert State.SECOND_SERVER_HELLO in pair.views["outside"].visited


def test_a_hello_retry_request_with_a_psk_is_answered_too(certificates: Path) -> None:
    pair = resumed(certificates, V13, lambda server: server.set_ecdh_curve("secp384r1"))
    assert passed(pair, "RETRY")
    assert passed(pair, "TLS13_PSK")
    assert pair.states() == {"OPEN_13"}


@pytest.mark.parametrize(("identity", "auth"), [("leaf", ClientAuth.ANSWERED), (None, ClientAuth.EMPTY)])
def test_authentication_after_the_handshake_is_seen(certificates: Path, identity: str | None, auth: ClientAuth) -> None:
    client, server = contexts(certificates, identity=identity, verify=CERT_OPTIONAL)
    client.post_handshake_auth = server.post_handshake_auth = True
    pair = Pair(client, server).shake()
    assert pair.views["wire"].client_auth is ClientAuth.NOT_ASKED
    pair.run(SERVER, pair.ends[SERVER].verify_client_post_handshake)
    pair.ends[SERVER].write(b"who are you?")
    assert pair.views["wire"].state is State.AUTH_REQUESTED
    pair.move()
    pair.read(CLIENT)
    pair.move()
    pair.read(SERVER)
    pair.move()
    pair.read(CLIENT)
    assert (pair.errors, pair.illegal()) == ({}, [])
    assert pair.states() == {"OPEN_13"}
    assert pair.views["server"].client_auth is auth


# -- ends --


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("first", Side)
def test_a_connection_that_each_side_closes_ends_in_the_closed_state(
    certificates: Path, version: str, first: Side
) -> None:
    pair = Pair(*contexts(certificates, VERSIONS[version])).shake()
    pair.close(first)
    assert pair.states() == {f"CLOSED_BY_{first.name}_{version}"}
    pair.close(first.other)
    assert pair.states() == {"CLOSED"}
    for side in Side:
        pair.end(side)
    assert pair.states() == {"CLOSED"}
    assert pair.views["outside"].state is State.OPAQUE_ENDED
    assert pair.illegal() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_server_goes_on_sending_after_the_client_has_closed(certificates: Path, version: str) -> None:
    pair = Pair(*contexts(certificates, VERSIONS[version])).shake()
    pair.run(CLIENT, pair.ends[CLIENT].unwrap)
    pair.ends[SERVER].write(b"the rest")  # before it has read the close
    pair.move()
    assert (pair.illegal(), pair.views["wire"].state.name) == ([], f"CLOSED_BY_CLIENT_{version}")
    assert State.OPAQUE_12 in pair.views["outside"].visited or version == "13"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("side", Side)
def test_a_stream_that_ends_without_close_notify_is_cut(certificates: Path, version: str, side: Side) -> None:
    pair = Pair(*contexts(certificates, VERSIONS[version])).shake()
    pair.send(side)
    pair.end(side)
    assert pair.states() == {f"CUT_BY_{side.name}"}
    assert pair.illegal() == []
    pair.read(side.other)
    assert "EOF" in str(pair.errors[side.other])  # OpenSSL agrees


@pytest.mark.parametrize("side", Side)
def test_a_stream_that_ends_within_the_handshake_is_left(certificates: Path, side: Side) -> None:
    pair = Pair(*contexts(certificates))
    pair.run(CLIENT, pair.ends[CLIENT].do_handshake)
    pair.end(side)
    assert pair.states() == {f"LEFT_BY_{side.name}"}
    assert pair.views["outside"].state.name == f"LEFT_BY_{side.name}"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("client_identity", "server_identity", "side"),
    [("foreign", "leaf", SERVER), (None, "leaf", SERVER), ("leaf", "foreign", CLIENT)],
)
def test_a_refused_certificate_ends_with_a_fatal_alert(
    certificates: Path, version: str, client_identity: str | None, server_identity: str, side: Side
) -> None:
    of = VERSIONS[version]
    client = context(CLIENT, certificates, version=of, identity=client_identity, verify=CERT_REQUIRED)
    server = context(SERVER, certificates, version=of, identity=server_identity, verify=CERT_REQUIRED)
    pair = Pair(client, server).shake()
    assert set(pair.errors) == set(Side)
    assert pair.illegal() == []
    assert pair.states() == {f"FAILED_BY_{side.name}"}
    # A client of TLS 1.3 is done when the server refuses it.
    assert (State.OPEN_13 in pair.views["wire"].visited) == (version == "13" and side is SERVER)


def test_a_version_that_the_server_does_not_have_is_refused(certificates: Path) -> None:
    pair = Pair(contexts(certificates, V12)[0], contexts(certificates, V13)[1]).shake()
    assert pair.states() == {"FAILED_BY_SERVER"}
    assert pair.views["outside"].state is State.FAILED_BY_SERVER
    assert pair.illegal() == []


# -- broken peers: what is not encrypted is changed on its way --


class Broken:
    """Leaves out, doubles, or delays by one, the given message of a side."""

    def __init__(self, how: str, side: Side, number: int) -> None:
        self._how, self._side, self._number = how, side, number
        self._count = {CLIENT: 0, SERVER: 0}
        self._held: list[bytes] = []

    def __call__(self, side: Side, message: bytes) -> Iterator[bytes]:
        number, self._count[side] = self._count[side], self._count[side] + 1
        if (side, number) == (self._side, self._number):
            if self._how == "late":
                self._held.append(message)
            elif self._how == "twice":
                yield from (message, message)
            return
        yield message
        if side is self._side and self._held:
            yield self._held.pop()


def first_illegal(pair: Pair) -> tuple[int, str] | None:
    """The first step from outside that the grammar does not allow: its number and symbol."""
    language = CONNECTION
    for number, step in enumerate(pair.views["outside"].all_steps):
        language = derivative(language, SYMBOLS[step])
        if language == NOTHING:
            return number, SYMBOLS[step]
    return None


FLIGHTS = {
    # What is not encrypted, of each side.
    ("12", CLIENT): 4,  # ClientHello, Certificate, ClientKeyExchange, CertificateVerify
    ("12", SERVER): 6,  # its hello, Certificate, ServerKeyExchange, CertificateRequest, ServerHelloDone, a ticket
    ("13", CLIENT): 2,  # two hellos, with a retry
    ("13", SERVER): 2,
}
BREAKS = [
    (version, side, number, how)
    for (version, side), count in FLIGHTS.items()
    for number in range(count)
    for how in ("missing", "twice", "late")
]


def broken(at: Path, version: str, change: Change | None) -> Pair:
    client, server = contexts(at, VERSIONS[version])
    if version == "13":
        server.set_ecdh_curve("secp384r1")
    return Pair(client, server, change=change).shake()


@pytest.mark.parametrize(("version", "side", "number", "how"), BREAKS)
def test_a_broken_peer_is_found_at_the_first_message_that_the_grammar_does_not_allow(
    certificates: Path, version: str, side: Side, number: int, how: str
) -> None:
    pair = broken(certificates, version, Broken(how, side, number))
    outside = pair.views["outside"]
    wanted = first_illegal(pair)
    found = None
    if outside.illegal is not None:
        found = outside.first_illegal, SYMBOLS[outside.illegal.side, outside.illegal.event]
    assert found == wanted
    if outside.illegal is not None:
        assert outside.illegal.side.other in pair.errors
    # A message that may be missing is noticed by the hash of all messages in Finished; else, both sides wait.
    assert pair.errors or not {State.OPEN_12, State.OPAQUE_OPEN} & outside.visited


def test_unbroken_the_same_handshakes_are_legal(certificates: Path) -> None:
    for version, state in (("12", State.OPEN_12), ("13", State.OPAQUE_OPEN)):
        pair = broken(certificates, version, lambda _, message: [message])
        assert (pair.illegal(), pair.views["outside"].state) == ([], state)
        for side in Side:
            messages = [
                event
                for who, event in pair.views["outside"].all_steps
                if who is side and event.name in HandshakeType.__members__
            ]
            assert len(messages) == FLIGHTS[version, side]


@pytest.mark.parametrize(
    ("side", "number", "how", "message"),
    [
        (
            SERVER,
            1,
            "missing",
            "in TLS12_HELLO came ServerKeyExchange of the server; expected of the server: HelloRequest, Certificate, "
            "NewSessionTicket or ChangeCipherSpec",
        ),
        (
            SERVER,
            0,
            "twice",
            "in TLS12_HELLO came ServerHello of the server; expected of the server: HelloRequest, Certificate, "
            "NewSessionTicket or ChangeCipherSpec",
        ),
        (
            CLIENT,
            1,
            "missing",
            "in TLS12_DONE_ASKED came ClientKeyExchange of the client; expected of the client: Certificate; of the "
            "server: HelloRequest",
        ),
        (
            CLIENT,
            3,
            "missing",
            "in TLS12_CLIENT_KEY_OF_CERTIFICATE came ChangeCipherSpec of the client; expected of the client: "
            "CertificateVerify; of the server: HelloRequest",
        ),
        (
            CLIENT,
            2,
            "late",
            "in TLS12_CLIENT_CERTIFICATE came CertificateVerify of the client; expected of the client: "
            "ClientKeyExchange; of the server: HelloRequest",
        ),
    ],
)
def test_an_illegal_step_says_what_came_and_what_was_expected(
    certificates: Path, side: Side, number: int, how: str, message: str
) -> None:
    pair = broken(certificates, "12", Broken(how, side, number))
    assert str(pair.views["outside"].illegal) == message
    # The receiver finds the same, and says so with a fatal alert.
    assert pair.views["outside"].state is State[f"FAILED_BY_{side.other.name}"]
    assert "unexpected message" in str(pair.errors[side.other])
    assert Event.FATAL in {event for who, event in pair.views["outside"].all_steps if who is side.other}
