"""What messages, alerts and records are to the table of TLS's states, and what following it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.wire.side import Side
from meshtls.wire.tls_following import ClientAuth, TlsStates
from meshtls.wire.tls_states import NEXT, Event, State, Step
from meshtls.wire.tls_steps import TlsSteps
from tests.unit.wire.tls import rfc8448
from tests.unit.wire.tls.test_tls_messages import compressed

CLIENT, SERVER = Side
E = Event
RETRY = "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"
RANDOM = "11" * 32


def message(kind: int, body: str) -> bytes:
    """A handshake message with this body, in hexadecimal."""
    content = bytes.fromhex(body)
    return bytes((kind,)) + len(content).to_bytes(3, "big") + content


def client_hello(session_id: str = "", extensions: str = "") -> bytes:
    own = f"{len(session_id) // 2:02x}{session_id}"
    return message(1, f"0303{RANDOM}{own}00021301 0100 {len(extensions) // 2:04x}{extensions}")


def server_hello(session_id: str = "", extensions: str | None = None, random: str = RANDOM) -> bytes:
    own = f"{len(session_id) // 2:02x}{session_id}"
    return message(
        2, f"0303{random}{own}1301 00" + ("" if extensions is None else f"{len(extensions) // 2:04x}{extensions}")
    )


EARLY_DATA, VERSION_13, PSK = "002a0000", "002b00020304", "002900020000"


@pytest.mark.parametrize(
    ("sent", "events"),
    [
        (client_hello(), [E.CLIENT_HELLO]),
        (client_hello(extensions=EARLY_DATA), [E.CLIENT_HELLO, E.OFFERS_EARLY_DATA]),
        (client_hello(extensions="00170000"), [E.CLIENT_HELLO]),
        (message(16, "00"), [E.CLIENT_KEY_EXCHANGE]),
        (message(11, "000000"), [E.CERTIFICATE, E.IS_EMPTY]),
        (message(11, "000004 000001 30"), [E.CERTIFICATE]),
        (message(25, "0001 000000 000000"), [E.CERTIFICATE]),
        (message(6, ""), [E.UNKNOWN]),
        (message(99, ""), [E.UNKNOWN]),
        (b"", [E.UNKNOWN]),
    ],
)
def test_a_message_of_the_client_is_its_event_and_what_it_decides(sent: bytes, events: list[Event]) -> None:
    assert TlsSteps().of_message(CLIENT, sent) == events


@pytest.mark.parametrize(
    ("sent", "events"),
    [
        (server_hello(), [E.SERVER_HELLO, E.CHOOSES_1_2]),
        (server_hello(extensions=""), [E.SERVER_HELLO, E.CHOOSES_1_2]),
        (server_hello(session_id="aa"), [E.SERVER_HELLO, E.RESUMES_1_2]),
        (server_hello(session_id="bb"), [E.SERVER_HELLO, E.CHOOSES_1_2]),
        (server_hello(session_id="aa", extensions=VERSION_13), [E.SERVER_HELLO, E.CHOOSES_1_3]),
        (server_hello(extensions=VERSION_13 + PSK), [E.SERVER_HELLO, E.ACCEPTS_PSK]),
        (server_hello(extensions=PSK), [E.SERVER_HELLO, E.CHOOSES_1_2]),
        (server_hello(extensions=VERSION_13, random=RETRY), [E.HELLO_RETRY_REQUEST]),
        (server_hello(extensions=VERSION_13)[:-1], [E.SERVER_HELLO]),
        (message(8, "0000"), [E.ENCRYPTED_EXTENSIONS]),
        (message(8, f"0004{EARLY_DATA}"), [E.ENCRYPTED_EXTENSIONS, E.ACCEPTS_EARLY_DATA]),
        (message(8, f"0008{EARLY_DATA}"), [E.ENCRYPTED_EXTENSIONS]),
        (message(11, "000000"), [E.CERTIFICATE]),
    ],
)
def test_a_message_of_the_server_is_its_event_and_what_it_decides(sent: bytes, events: list[Event]) -> None:
    steps = TlsSteps()
    steps.of_message(CLIENT, client_hello(session_id="aa"))
    assert steps.of_message(SERVER, sent) == events


@pytest.mark.parametrize(
    ("certificate", "events"), [("00 000000", [E.CERTIFICATE, E.IS_EMPTY]), ("00 000001 30", [E.CERTIFICATE])]
)
def test_in_tls_13_a_certificate_has_a_context_before_its_list(certificate: str, events: list[Event]) -> None:
    steps = TlsSteps()
    steps.of_message(SERVER, server_hello(extensions=VERSION_13))
    assert steps.of_message(CLIENT, message(11, certificate)) == events
    assert steps.of_message(CLIENT, compressed(bytes.fromhex(certificate))) == events


def test_a_compressed_certificate_that_cannot_be_decompressed_is_a_certificate() -> None:
    steps = TlsSteps()
    steps.of_message(SERVER, server_hello(extensions=VERSION_13))
    assert steps.of_message(CLIENT, compressed(bytes.fromhex("00 000000"), 5)) == [E.CERTIFICATE]


@pytest.mark.parametrize(
    ("level", "description", "in_12", "in_13"),
    [
        (1, 0, E.CLOSE_NOTIFY, E.CLOSE_NOTIFY),
        (2, 0, E.CLOSE_NOTIFY, E.CLOSE_NOTIFY),
        (1, 90, E.WARNING, E.WARNING),
        (1, 100, E.NO_RENEGOTIATION, E.FATAL),
        (1, 112, E.WARNING, E.FATAL),
        (2, 48, E.FATAL, E.FATAL),
        (2, 90, E.FATAL, E.WARNING),
    ],
)
def test_an_alert_ends_a_connection_by_its_level_or_in_tls_13_by_its_kind(
    level: int, description: int, in_12: Event, in_13: Event
) -> None:
    steps = TlsSteps()
    assert steps.of_alert(level, description) is in_12
    steps.of_message(SERVER, server_hello(extensions=VERSION_13))
    assert steps.of_alert(level, description) is in_13


def test_a_record_that_cannot_be_read_is_encrypted() -> None:
    steps = TlsSteps()
    records = {20: E.CHANGE_CIPHER_SPEC, 21: E.ENCRYPTED_ALERT, 22: E.ENCRYPTED, 23: E.APPLICATION_DATA, 24: E.UNKNOWN}
    assert {kind: steps.of_record(kind) for kind in records} == records
    steps.of_message(SERVER, server_hello(extensions=VERSION_13))
    assert steps.of_record(23) is E.ENCRYPTED


@given(st.lists(st.tuples(st.sampled_from(Side), st.integers(0, 30), st.binary(max_size=120)), max_size=6))
def test_any_bytes_are_events_of_the_table(messages: list[tuple[Side, int, bytes]]) -> None:
    steps, states = TlsSteps(), TlsStates()
    for side, kind, body in messages:
        for event in steps.of_message(side, bytes((kind,)) + body):
            states.step(side, event)
        assert states.state in NEXT


def test_the_handshake_of_rfc_8448_is_complete_and_asks_for_no_certificate() -> None:
    steps, states = TlsSteps(), TlsStates()
    for side, sent in (
        (CLIENT, rfc8448.CLIENT_HELLO),
        (SERVER, rfc8448.SERVER_HELLO),
        (SERVER, rfc8448.ENCRYPTED_EXTENSIONS),
        (SERVER, rfc8448.CERTIFICATE),
        (SERVER, rfc8448.CERTIFICATE_VERIFY),
        (SERVER, rfc8448.SERVER_FINISHED),
        (CLIENT, rfc8448.CLIENT_FINISHED),
    ):
        for event in steps.of_message(side, sent):
            assert states.step(side, event) is None
    assert (states.state, states.client_auth) == (State.OPEN_13, ClientAuth.NOT_ASKED)


def test_the_first_illegal_step_is_kept_and_what_follows_is_not_judged() -> None:
    states = TlsStates()
    assert states.step(CLIENT, E.CLIENT_HELLO) is None
    illegal = states.step(SERVER, E.FINISHED)
    words = "in CLIENT_HELLO came Finished of the server; expected of the server: HelloRetryRequest or ServerHello"
    assert str(illegal) == words
    assert states.step(SERVER, E.UNKNOWN) is None
    assert (states.state, states.illegal, states.steps) == (State.ILLEGAL, illegal, 3)
    assert states.step(CLIENT, E.FATAL) is None
    assert repr(states) == "<TlsStates FAILED_BY_CLIENT [4 steps]>"
    # It is kept also where the failure is not the end.
    assert states.step(CLIENT, E.APPLICATION_DATA) is not None
    assert states.illegal is illegal


@given(st.lists(st.tuples(st.sampled_from(Side), st.sampled_from(Event)), max_size=30), st.integers(0, 30))
def test_steps_that_are_followed_at_once_are_followed_as_one_by_one(steps: list[Step], end: int) -> None:
    # Most random steps are illegal, so that the legal ones of the states that come are put before them.
    legal, state = list[Step](), State.START
    for side, event in steps:
        choices = list(NEXT[state].items())
        if choices:
            step, state = choices[(list(Event).index(event) * 2 + (side is SERVER)) % len(choices)]
            legal.append(step)
    steps = [*legal[:end], *steps]

    each, at_once = TlsStates(), TlsStates()
    illegal = next((found for found in (each.step(*step) for step in steps) if found is not None), None)

    assert at_once.follow(steps) == illegal
    assert all(getattr(at_once, name) == getattr(each, name) for name in TlsStates.__slots__)


def test_a_version_that_is_chosen_twice_is_the_last_one() -> None:
    steps, version_12 = TlsSteps(), "002b00020303"
    assert steps.of_message(SERVER, server_hello(extensions=VERSION_13 + version_12)) == [E.SERVER_HELLO, E.CHOOSES_1_2]
    assert steps.of_message(SERVER, server_hello(extensions=version_12 + VERSION_13)) == [E.SERVER_HELLO, E.CHOOSES_1_3]


def test_nothing_is_known_of_the_client_before_the_server_has_asked_or_not() -> None:
    states = TlsStates()
    seen = [states.client_auth]
    for side, event in (
        (CLIENT, E.CLIENT_HELLO),
        (SERVER, E.SERVER_HELLO),
        (SERVER, E.CHOOSES_1_3),
        (SERVER, E.ENCRYPTED_EXTENSIONS),
        (SERVER, E.CERTIFICATE_REQUEST),
        (SERVER, E.CERTIFICATE),
        (SERVER, E.CERTIFICATE_VERIFY),
        (SERVER, E.FINISHED),
        (CLIENT, E.CERTIFICATE),
        (CLIENT, E.CERTIFICATE_VERIFY),
    ):
        states.step(side, event)
        seen.append(states.client_auth)
    auth = ClientAuth
    assert seen == [auth.UNKNOWN] * 5 + [auth.ASKED] * 5 + [auth.ANSWERED]
