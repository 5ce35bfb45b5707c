"""What Python's ``ssl`` can't ask for, between OpenSSL's own programs: CCM in TLS 1.3, 0-RTT, KeyUpdate."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from meshtls.capture.aead import Cipher
from meshtls.capture.events import ApplicationBytes, MessageSeen, Trouble
from meshtls.capture.keylog import KeyLog
from meshtls.capture.outside import Answer, outside_view
from meshtls.capture.record_protection import RecordProtection
from meshtls.capture.session import TlsSession
from meshtls.wire.side import Side
from meshtls.wire.tls import HandshakeType
from tests.support.tls_wire import Flight, Program, play, programs
from tests.support.waiting import until

EARLY_ALLOWED = ("-early_data", "-max_early_data", "4096")
EARLY = b"early data, which may be replayed\n"


def session_of(flights: Sequence[Flight], keylog: Path) -> TlsSession:
    session = TlsSession(KeyLog(keylog.read_bytes()))
    play(session, flights)
    return session


def text_of(session: TlsSession, side: Side, *, early: bool = False) -> bytes:
    found = [one for one in session.events if isinstance(one, ApplicationBytes) and one.side is side]
    return b"".join(one.plaintext or b"" for one in found if one.early is early)


def troubles(session: TlsSession) -> list[Trouble]:
    return [one for one in session.events if isinstance(one, Trouble)]


def kinds(session: TlsSession, side: Side) -> list[int]:
    return [one.kind for one in session.events if isinstance(one, MessageSeen) and one.side is side]


@pytest.mark.parametrize(
    ("suite", "cipher"),
    [
        ("TLS_AES_128_GCM_SHA256", Cipher.AES_GCM),
        ("TLS_AES_256_GCM_SHA384", Cipher.AES_GCM),
        ("TLS_CHACHA20_POLY1305_SHA256", Cipher.CHACHA20_POLY1305),
        ("TLS_AES_128_CCM_SHA256", Cipher.AES_CCM),
        ("TLS_AES_128_CCM_8_SHA256", Cipher.AES_CCM_8),
    ],
)
@pytest.mark.parametrize("without_hello", [False, True])
async def test_each_suite_of_tls_1_3_is_decrypted(
    suite: str, cipher: Cipher, without_hello: bool, tmp_path: Path
) -> None:
    keylog = tmp_path / "keys.log"
    async with (
        programs(tmp_path, keylog, "-ciphersuites", suite, "-Verify", "1") as run,
        run.client("-ciphersuites", suite) as client,
    ):
        await both_ways(run.server, client)
    flights = list(run.flights)
    if without_hello:
        # Which suite it is shows in what opens the records.
        at = next(at for at, (side, _) in enumerate(flights) if side is Side.SERVER)
        data = flights[at][1]
        length = 5 + int.from_bytes(data[3:5], "big")
        session = TlsSession(KeyLog(keylog.read_bytes()))
        play(session, flights[:at])
        session.gap(Side.SERVER, length)
        play(session, [(Side.SERVER, data[length:]), *flights[at + 1 :]])
        assert [one.reason for one in troubles(session)] == [f"{length} bytes are lost"]
    else:
        session = session_of(flights, keylog)
        assert troubles(session) == []
    assert (text_of(session, Side.CLIENT), text_of(session, Side.SERVER)) == (b"hello\n", b"world\n")
    for side in Side:
        protection = session.direction(side).protection
        assert isinstance(protection, RecordProtection)
        assert protection.aead.cipher is cipher


async def both_ways(server: Program, client: Program, ask: bytes = b"hello", answer: bytes = b"world") -> None:
    await client.type(ask + b"\n")
    await server.told(ask)
    await server.type(answer + b"\n")
    await client.told(answer)


def grown(flights: Sequence[Flight], before: int) -> bool:
    return len(flights) > before


async def test_keys_are_updated_by_either_side(tmp_path: Path) -> None:
    keylog = tmp_path / "keys.log"
    async with programs(tmp_path, keylog) as run, run.client() as client:
        await both_ways(run.server, client)
        # The first asks the peer to update its keys, too.
        for updater, command in ((client, b"K\n"), (client, b"k\n"), (run.server, b"K\n"), (run.server, b"k\n")):
            before = len(run.flights)
            await updater.type(command)
            await until(partial(grown, run.flights, before))
            number = str(len(run.flights)).encode()
            await both_ways(run.server, client, b"hello" + number, b"world" + number)
    session = session_of(run.flights, keylog)
    assert troubles(session) == []
    assert text_of(session, Side.CLIENT).count(b"hello") == 5
    assert text_of(session, Side.SERVER).count(b"world") == 5
    updates = [kinds(session, side).count(HandshakeType.KEY_UPDATE) for side in Side]
    assert updates == [3, 3]
    # OpenSSL logs the secrets of later generations with a label of its own.
    assert keylog.read_bytes().count(b"_TRAFFIC_SECRET_N ") > 0
    assert KeyLog(keylog.read_bytes()).troubles == []


@pytest.mark.parametrize("accepted", [True, False])
async def test_early_data_is_decrypted_whether_it_is_accepted_or_not(accepted: bool, tmp_path: Path) -> None:
    keylog, kept, early = tmp_path / "keys.log", tmp_path / "session.pem", tmp_path / "early"
    early.write_bytes(EARLY)
    async with programs(tmp_path, keylog, *EARLY_ALLOWED) as run:
        async with run.client("-sess_out", str(kept)) as client:
            await both_ways(run.server, client)
            await client.quit()
        # A session's early data is accepted once (RFC 8446, section 8.1).
        for number in range(1 if accepted else 2):
            async with run.client("-sess_in", str(kept), "-early_data", str(early)) as client:
                await client.type(b"hello\n")
                await run.server.told(b"hello", of=number + 2)
                await run.server.type(b"world\n")
                await client.told(b"world")
                await client.quit()
    session = session_of(run.flights, keylog)
    assert troubles(session) == []
    assert text_of(session, Side.CLIENT, early=True) == EARLY
    assert (text_of(session, Side.CLIENT), text_of(session, Side.SERVER)) == (b"hello\n", b"world\n")
    counted = session.direction(Side.CLIENT).application_bytes
    assert (session.early_accepted, counted) == (accepted, len(b"hello\n") + accepted * len(EARLY))
    assert session.psk is accepted
    assert (HandshakeType.END_OF_EARLY_DATA in kinds(session, Side.CLIENT)) is accepted
    assert outside_view(session).resumed is (Answer.YES if accepted else Answer.NO)
