"""What ``openssl s_client`` and ``s_server`` do beyond Python's ``ssl`` follows the table of TLS's states, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshtls.wire.side import Side
from meshtls.wire.tls_states import Event, State
from tests.integration.wire.openssl_talks import Talk, serving
from tests.integration.wire.tls_pairs import write_certificates

CLIENT, SERVER = Side
E, S = Event, State


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    write_certificates(directory)
    return directory


def passed(talk: Talk, *states: State) -> list[bool]:
    """Of each state, whether both sides have seen the connection in it."""
    seen = [talk.view(side).visited for side in Side]
    return [all(state in one for one in seen) for state in states]


async def test_keys_are_updated_in_an_open_connection(tmp_path: Path, certificates: Path) -> None:
    async with serving(tmp_path, certificates, "-tls1_3") as server, server.connected() as talk:
        await talk.until("OPEN_13", steps=12)  # with both tickets
        talk.type(SERVER, "K")
        await talk.until("OPEN_13", steps=13)
        talk.type(CLIENT, "k")
        await talk.until("OPEN_13", steps=14)
        assert talk.view(SERVER).all_steps[-2:] == [(SERVER, E.KEY_UPDATE), (CLIENT, E.KEY_UPDATE)]


async def test_early_data_is_accepted_rejected_and_ended_by_a_retry(tmp_path: Path, certificates: Path) -> None:
    (tmp_path / "early").write_text("early data")
    early = ("-sess_in", f"{tmp_path}/session", "-early_data", f"{tmp_path}/early")
    options = ("-tls1_3", "-early_data", "-no_anti_replay", "-alpn", "other,one", "-groups", "P-256")
    async with serving(tmp_path, certificates, *options, connections=5) as server:
        async with server.connected("-alpn", "one", "-groups", "P-256", "-sess_out", f"{tmp_path}/session") as talk:
            await talk.until("OPEN_13", steps=12)

        async with server.connected("-alpn", "one", "-groups", "P-256", *early) as talk:
            await talk.until("OPEN_13")
            states = [S.TLS13_EARLY_PSK, S.TLS13_EARLY_ACCEPTED, S.TLS13_EARLY_ENDED, S.TLS13_SKIPPING_HELLO]
            assert passed(talk, *states) == [True, True, True, False]

        # Another application protocol than that of the session is chosen now.
        async with server.connected("-alpn", "other,one", "-groups", "P-256", *early) as talk:
            await talk.until("OPEN_13")
            states = [S.TLS13_EARLY_PSK, S.TLS13_EARLY_ACCEPTED, S.TLS13_SKIPPING_SERVER_FINISHED]
            assert passed(talk, *states) == [True, False, True]

        async with server.connected("-alpn", "one", "-groups", "X25519:P-256", *early) as talk:
            await talk.until("OPEN_13")
            states = [S.RETRY_SKIPPING, S.SECOND_HELLO, S.TLS13_EARLY_PSK, S.TLS13_PSK]
            assert passed(talk, *states) == [True, True, False, True]


async def test_early_data_of_an_unknown_session_is_rejected_with_it(tmp_path: Path, certificates: Path) -> None:
    (tmp_path / "early").write_text("early data")
    saving = ("-sess_out", f"{tmp_path}/session")
    async with (
        serving(tmp_path, certificates, "-tls1_3", "-early_data") as server,
        server.connected(*saving) as talk,
    ):
        await talk.until("OPEN_13", steps=12)
    (tmp_path / "server.messages").unlink()
    options = ("-sess_in", f"{tmp_path}/session", "-early_data", f"{tmp_path}/early")
    async with (
        serving(tmp_path, certificates, "-tls1_3", "-Verify", "1") as server,
        server.connected(*options) as talk,
    ):
        await talk.until("OPEN_13")
        states = [S.EARLY_HELLO, S.TLS13_SKIPPING_HELLO, S.TLS13_SKIPPING_REQUEST, S.TLS13_CLIENT_VERIFY]
        assert passed(talk, *states) == [True, True, True, True]
        # On the client's side the data is sent before the answer.
        steps = talk.view(CLIENT).all_steps
        assert steps.index((CLIENT, E.APPLICATION_DATA)) < steps.index((SERVER, E.SERVER_HELLO))


async def test_a_renegotiation_of_the_client_is_refused(tmp_path: Path, certificates: Path) -> None:
    async with serving(tmp_path, certificates, "-tls1_2") as server, server.connected() as talk:
        await talk.until("OPEN_12")
        talk.type(CLIENT, "R")
        await talk.until("FAILED_BY_CLIENT")  # OpenSSL's client insists
        assert passed(talk, S.RENEGOTIATION, S.RENEGOTIATION_SERVER_HELLO) == [True, False]
        assert talk.view(SERVER).all_steps[-3:] == [
            (CLIENT, E.CLIENT_HELLO),
            (SERVER, E.NO_RENEGOTIATION),
            (CLIENT, E.FATAL),
        ]


async def test_a_renegotiation_of_the_server_is_refused(tmp_path: Path, certificates: Path) -> None:
    async with serving(tmp_path, certificates, "-tls1_2") as server, server.connected("-no_renegotiation") as talk:
        await talk.until("OPEN_12")
        talk.type(SERVER, "r")
        await talk.until("FAILED_BY_SERVER")  # OpenSSL's server insists
        assert passed(talk, S.RENEGOTIATION_ASKED, S.RENEGOTIATION) == [True, False]
        assert (CLIENT, E.NO_RENEGOTIATION) in talk.view(CLIENT).all_steps


async def test_a_renegotiation_that_is_allowed_is_another_handshake(tmp_path: Path, certificates: Path) -> None:
    options = ("-tls1_2", "-client_renegotiation")
    async with serving(tmp_path, certificates, *options) as server, server.connected() as talk:
        await talk.until("OPEN_12")
        first = talk.view(CLIENT).steps
        talk.type(CLIENT, "R")
        await talk.until("OPEN_12", steps=first + 8)  # a handshake of a resumed session has no fewer
        assert passed(talk, S.RENEGOTIATION, S.RENEGOTIATION_SERVER_HELLO) == [True, True]


async def test_a_stapled_status_is_seen(tmp_path: Path, certificates: Path) -> None:
    (tmp_path / "status").write_bytes(bytes.fromhex("30030a0106"))  # an OCSPResponse: unauthorized
    options = ("-tls1_2", "-status_file", f"{tmp_path}/status")
    async with serving(tmp_path, certificates, *options) as server, server.connected("-status") as talk:
        await talk.until("OPEN_12")
        assert passed(talk, S.TLS12_STATUS) == [True]


async def test_a_warning_within_the_handshake_does_not_end_it(tmp_path: Path, certificates: Path) -> None:
    second = ("-cert2", f"{certificates}/leaf.pem", "-key2", f"{certificates}/leaf.pem")
    options = ("-tls1_2", "-servername", "a.test", *second)
    async with serving(tmp_path, certificates, *options) as server, server.connected("-servername", "b.test") as talk:
        await talk.until("OPEN_12")
        assert (SERVER, E.WARNING) in talk.view(CLIENT).all_steps  # unrecognized_name
