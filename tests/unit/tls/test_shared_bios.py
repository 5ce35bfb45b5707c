"""All engines of a thread share one pair of BIOs: what breaks in one connection must not be seen by the next."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meshtls.errors import HandshakeError
from meshtls.tls.engine import TlsEngine
from meshtls.wire.tls import MAX_RECORD
from tests.support.authority import LASTING, context_for, make_authority
from tests.support.tls import Ends, engine_of, shake

OURS = make_authority("example.org")
CLIENT, SERVER = (context_for(OURS, path, ttl=LASTING) for path in ("/client", "/server"))
#: As OpenSSL 3.0 says it, and 3.5.
BAD_MAC = (
    "TLS failed: decryption failed or bad record mac",
    "TLS failed: record layer failure: the peer gave up, or broke the protocol, after its handshake had begun",
)


def connected() -> tuple[TlsEngine, TlsEngine]:
    """A client and a server that have shaken hands."""
    client, server = engine_of(CLIENT, server_side=False), engine_of(SERVER, server_side=True)
    assert shake(client, server) == Ends()
    return client, server


def opened(engine: TlsEngine, cipher: bytes) -> bytes:
    """By the quick way."""
    into = memoryview(bytearray(len(cipher) + MAX_RECORD))
    return bytes(into[: engine.open(memoryview(cipher), into)])


def fed(engine: TlsEngine, cipher: bytes) -> bytes:
    engine.feed(cipher)
    return engine.read()


def fed_and_half_closed(engine: TlsEngine, cipher: bytes) -> bytes:
    engine.feed(cipher)
    engine.close_write()
    return engine.read()


def broken(record: bytes) -> bytes:
    """The same with the last bit of its tag turned."""
    return record[:-1] + bytes([record[-1] ^ 1])


WAYS: list[Callable[[TlsEngine, bytes], bytes]] = [opened, fed, fed_and_half_closed]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "behind", [b"", b"\x17\x03\x03\x00\x20half of one", bytes(40_000)], ids=["nothing", "half a record", "junk"]
)
def test_a_broken_record_leaves_nothing_that_another_connection_sends_or_reads(
    way: Callable[[TlsEngine, bytes], bytes], behind: bytes
) -> None:
    client, server = connected()
    other_client, other_server = connected()
    with pytest.raises(HandshakeError) as raised:
        way(server, broken(client.seal(b"hello")) + behind)
    assert str(raised.value) in BAD_MAC
    assert opened(other_client, other_server.seal(b"to the client")) == b"to the client"
    assert opened(other_server, other_client.seal(b"to the server")) == b"to the server"


@pytest.mark.parametrize("way", WAYS)
def test_the_peer_of_a_broken_record_reads_an_alert_and_of_a_whole_record_none(
    way: Callable[[TlsEngine, bytes], bytes],
) -> None:
    client, server = connected()
    assert way(server, client.seal(b"hello")) == b"hello"
    client, server = connected()
    with pytest.raises(HandshakeError):
        way(server, broken(client.seal(b"hello")))
    with pytest.raises(HandshakeError) as raised:
        fed(client, server.outgoing())
    assert str(raised.value) == "the peer refused the connection with the alert 'bad record mac'"


@pytest.mark.parametrize("cut", [1, 5, 100])
def test_half_a_record_stays_with_its_own_connection(cut: int) -> None:
    client, server = connected()
    other_client, other_server = connected()
    record = client.seal(b"x" * 200)
    assert opened(server, record[:cut]) == b""
    assert opened(other_server, other_client.seal(b"whole")) == b"whole"
    assert opened(server, record[cut:]) == b"x" * 200


# -- half-close --


def test_bytes_fed_before_and_after_a_half_close_are_read() -> None:
    client, server = connected()
    server.feed(client.seal(b"before, "))
    server.close_write()
    assert not server.peer_closed
    server.feed(client.seal(b"after"))
    assert server.read() == b"before, after"
    assert fed(client, server.outgoing()) == b""
    assert client.peer_closed


def test_a_half_close_over_half_a_record_loses_none_of_it() -> None:
    client, server = connected()
    record = client.seal(b"x" * 200)
    server.feed(record[:100])
    server.close_write()
    assert fed(server, record[100:]) == b"x" * 200


def test_an_end_fed_before_our_half_close_is_known_and_earlier_bytes_are_kept() -> None:
    """Who has ended both sides is closed at once, and must not be waited for."""
    client, server = connected()
    last = client.seal(b"last words")
    client.close_write()
    server.feed(last + client.outgoing())
    server.close_write()
    assert server.peer_closed
    assert server.read() == b"last words"
    assert fed(client, server.outgoing()) == b""
    assert client.peer_closed
