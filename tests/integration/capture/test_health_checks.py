"""What is told of a client that goes away before the handshake is complete, as load balancers that probe a port do.

OpenSSL answers the end of the stream with the alert decode_error.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest

from meshtls.capture.analysis.connection import Connection
from meshtls.observe.events import Outcome
from meshtls.wire.proxy_protocol import LOCAL_HEADER
from meshtls.wire.side import Side
from meshtls.wire.tls import Alert
from tests.support.packets import ACK, FIN, RST
from tests.support.tls_capture import Tape, analyzed
from tests.support.tls_wire import Flight, Wire, contexts, programs
from tests.support.waiting import SECONDS

C, S = Side.CLIENT, Side.SERVER
CLIENT, SERVER = "the client 10.0.0.1:40001", "the server 10.0.0.2:443"
DECODE_ERROR = bytes((21, 3, 3, 0, 2, 2, Alert.DECODE_ERROR))


def told(before: Sequence[Flight], after: Sequence[Flight], keys: Path | None = None, *, waited: int = 0) -> Connection:
    """``before``: what was sent until the client closes, after so many milliseconds; ``after``: what the server still
    sends, which the client's system answers with RST.
    """
    tape = Tape()
    talk = tape.talk()
    tape.frames += [*talk.handshake(), *(talk.send(side, data) for side, data in before)]
    tape.wait(waited)
    tape.frames.append(talk.client(flags=FIN | ACK))
    tape.frames += [talk.send(side, data) for side, data in after]
    tape.frames.append(talk.client(flags=RST) if after else talk.server(flags=FIN | ACK))
    (found,) = analyzed(tape, keys)
    return found


async def probed(port: int, sent: bytes, *, answered: bool) -> tuple[list[Flight], list[Flight]]:
    """What a client and this server wrote until the client ends its stream, and after that."""
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        before: list[Flight] = []
        if sent:
            writer.write(sent)
            before.append((C, sent))
        if answered:
            before.append((S, await _flight(reader)))
        writer.write_eof()
        rest = await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return before, [(S, rest)] if rest else []


async def _flight(reader: asyncio.StreamReader) -> bytes:
    """All that the server sends without an answer: it is over when TLS wants to read the client's."""
    found = b""
    while not found or not _whole(found):
        found += await reader.read(1 << 16)
    return found


def _whole(data: bytes) -> bool:
    """Whether the ServerHelloDone, or the record with the Finished of TLS 1.3, is there."""
    kinds = []
    while len(data) >= 5 and len(data) >= (end := 5 + int.from_bytes(data[3:5], "big")):
        kinds.append((data[0], data[5], end))
        data = data[end:]
    return not data and ((22, 14, 9) in kinds or sum(kind == 23 for kind, _, _ in kinds) >= 4)


def hello(directory: Path, version: int) -> tuple[Wire, bytes]:
    wire = Wire(*contexts(directory, directory / "client-keys", version=version))
    with contextlib.suppress(ssl.SSLWantReadError):
        wire.client.do_handshake()
    wire.carry(C)
    return wire, wire.flights[0][1]


async def test_a_client_that_connects_and_closes_only_probed_the_port(tmp_path: Path) -> None:
    async with programs(tmp_path, tmp_path / "keys") as server:
        before, after = await probed(server.port, b"", answered=False)
    assert (before, len(after[0][1])) == ([], 7)
    found = told(before, after)
    assert (found.protocol, found.outcome, found.problem, found.unknown_because) == (
        "TLS",
        None,
        "",
        f"{CLIENT} closed the connection after 0.0 s, in which it sent no byte, and {SERVER} then sent the alert "
        "decode_error: likely it only probed the port",
    )
    assert (found.server.application_bytes, found.estimated) == (0, False)


HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 443\r\n"
ALONE = "a PROXY protocol header alone"
PROBED = "likely it only probed the port"


@pytest.mark.parametrize("header", [HEADER, LOCAL_HEADER])
@pytest.mark.parametrize("answers", [True, False])
def test_a_client_that_sends_a_proxy_header_and_closes_only_probed_the_port(header: bytes, answers: bool) -> None:
    """As HAProxy does (``check-send-proxy``)."""
    found = told([(C, header)], [(S, DECODE_ERROR)] if answers else [])
    assert (found.protocol, found.outcome, found.problem, found.first_line) == (
        "TLS" if answers else "other",
        None,
        "",
        "",
    )
    left = f"{CLIENT} closed the connection after 0.0 s, in which"
    assert found.unknown_because == (
        f"{left} it sent {ALONE}, and {SERVER} then sent the alert decode_error: {PROBED}"
        if answers
        else f"{left} the client sent {ALONE}: {PROBED}"
    )
    assert [(one.name, one.ms) for one in found.alerts] == ([("decode_error", 5.0)] if answers else [])
    assert found.preamble.startswith("PROXY protocol, version ")


def test_a_server_that_refuses_a_proxy_header_alone_is_not_told_as_refusing_plaintext() -> None:
    found = told([(C, HEADER), (S, DECODE_ERROR)], [])
    problem = f"{SERVER} sent the alert decode_error after 0.0 s, in which the client sent {ALONE}"
    assert (found.outcome, found.problem, found.unknown_because) == (None, problem, "")


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", " that starts with 'GET / HTTP/1.1'"),
        (HEADER + b"GET / HTTP/1.1\r\n\r\n", ""),
        (HEADER[:-2], " that starts with 'PROXY …'"),
    ],
)
def test_plaintext_that_is_answered_with_an_alert_was_refused_with_and_without_a_proxy_header(
    sent: bytes, words: str
) -> None:
    found = told([(C, sent), (S, DECODE_ERROR)], [])
    problem = f"{CLIENT} sent plaintext{words}, and the server answered with the TLS alert decode_error"
    assert (found.outcome, found.problem) == (Outcome.PLAINTEXT_REFUSED, problem)


@pytest.mark.parametrize("captured", [True, False])
def test_a_client_whose_packets_were_not_captured_is_not_told_as_silent(captured: bool) -> None:
    tape = Tape()
    talk = tape.talk()
    tape.frames += [*talk.handshake(), talk.server(DECODE_ERROR), talk.server(flags=FIN | ACK), talk.client()]
    if not captured:
        del tape.frames[5], tape.frames[2], tape.frames[0]
    (found,) = analyzed(tape)
    silent = f"{SERVER} sent the alert decode_error after 0.0 s, in which the client sent no byte"
    unread = f"{SERVER} sent the alert decode_error: it could not read a message of the client 10.0.0.1:40001"
    assert (found.outcome, found.problem) == ((None, silent) if captured else (Outcome.HANDSHAKE_FAILED, unread))


@pytest.mark.parametrize("waited", [0, 2000])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("part", [True, False])
async def test_a_client_that_leaves_during_the_handshake_closed_early(
    tmp_path: Path, version: int, part: bool, waited: int
) -> None:
    _, sent = hello(tmp_path, version)
    sent = sent[:100] if part else sent
    keys = tmp_path / "keys"
    async with programs(tmp_path, keys, "-keylogfile", str(keys)) as server:
        before, after = await probed(server.port, sent, answered=not part)
    assert after
    found = told(before, after, waited=waited)
    point = "before a whole ClientHello" if part else f"after the server's ServerHello{'Done' if version == 2 else ''}"
    shown = "sent the alert decode_error"
    if version == 3 and not part:
        shown = "sent an encrypted record of the length of an alert"
    web = f"{SERVER} (spiffe://a.test/web)" if version == 2 and not part else SERVER
    problem = f"{CLIENT} closed the connection during the handshake, {point}, without an alert; {web} then {shown}"
    assert found.handshake is not None
    assert (found.handshake.state, found.outcome, found.problem) == (
        "LEFT_BY_CLIENT",
        Outcome.CLOSED_EARLY,
        problem,
    )
    if not part:
        found = told(before, after, keys, waited=waited)
        assert found.outcome is Outcome.CLOSED_EARLY
        assert found.problem.endswith(f"{SERVER} (spiffe://a.test/web) then sent the alert decode_error")


@pytest.mark.parametrize("version", [2, 3])
def test_a_message_that_the_server_could_not_read_is_told_though_the_client_closes_first(
    tmp_path: Path, version: int
) -> None:
    """The alert was sent before the client closed, or when the next message was the server's."""
    _, sent = hello(tmp_path, version)
    problem = f"{SERVER} sent the alert decode_error: it could not read a message of {CLIENT}"
    for found in (told([(C, sent), (S, DECODE_ERROR)], []), told([(C, sent)], [(S, DECODE_ERROR)])):
        assert (found.outcome, found.problem) == (Outcome.HANDSHAKE_FAILED, problem)


def test_a_server_that_gives_up_a_silent_client_is_not_told_as_probed() -> None:
    found = told([(S, DECODE_ERROR)], [], waited=1000)
    assert (found.outcome, found.problem, found.unknown_because) == (
        None,
        f"{SERVER} sent the alert decode_error after 0.0 s, in which the client sent no byte",
        "",
    )


@pytest.mark.parametrize("version", [2, 3])
def test_a_server_that_leaves_during_the_handshake_is_told_as_that(tmp_path: Path, version: int) -> None:
    """OpenSSL's client, too, answers the end of the stream with decode_error."""
    wire, sent = hello(tmp_path, version)
    wire._to[C].write_eof()
    with contextlib.suppress(ssl.SSLError):
        wire.client.do_handshake()
    wire.carry(C)
    tape = Tape()
    talk = tape.talk()
    tape.frames += [*talk.handshake(), talk.client(sent), talk.server(flags=FIN | ACK)]
    tape.frames += [talk.send(side, data) for side, data in wire.flights[1:]]
    tape.frames.append(talk.client(flags=FIN | ACK))
    (found,) = analyzed(tape)
    assert (len(wire.flights), found.outcome, found.problem) == (
        2,
        Outcome.HANDSHAKE_FAILED,
        f"{SERVER} closed the connection during the handshake, after the ClientHello, without an alert; {CLIENT} then "
        "sent the alert decode_error",
    )
