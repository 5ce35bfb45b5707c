"""A record that was changed on the way: nothing of it reaches the app, and the peer is told by an alert."""

from __future__ import annotations

import asyncio

import pytest

from meshtls.errors import HandshakeError
from tests.integration.sidecar.mesh import an_app, connected, rest, side_a, side_b
from tests.integration.sidecar.raw_peer import RawPeer, a_raw_client, a_raw_server
from tests.support.waiting import SECONDS

#: As OpenSSL 3.0 says it, and 3.5.
BAD_MAC = (
    "TLS failed: decryption failed or bad record mac",
    "TLS failed: record layer failure: the peer gave up, or broke the protocol, after its handshake had begun",
)
REFUSED = "the peer refused the connection with the alert 'bad record mac'"


async def test_a_peer_whose_record_is_broken_is_told_and_the_app_is_reset() -> None:
    async with an_app() as app, side_b(app.address) as b, a_raw_client(b.inbound) as peer:
        peer.send(b"whole")
        assert await peer.receive() == b"whole"
        peer.send(b"broken", turned=1)
        with pytest.raises(HandshakeError) as told:
            await peer.receive()
        assert str(told.value) == REFUSED
        line = await b.lines.next()
        assert (line["outcome"], line["bytes_in"]) == ("RESET", 5)
        assert line["detail"] in BAD_MAC
        assert await asyncio.wait_for(app.ended.get(), SECONDS) == "reset"
    assert app.received == 5


@pytest.mark.parametrize("turned", [0, 1])
async def test_an_outbound_tells_the_far_side_whose_record_is_broken_and_resets_its_own_app(turned: int) -> None:
    met: asyncio.Future[RawPeer] = asyncio.get_running_loop().create_future()
    async with a_raw_server(met.set_result) as to, side_a(to) as a, connected(a.outbound) as streams:
        streams[1].write(b"ping")
        peer = await asyncio.wait_for(met, SECONDS)
        assert await peer.receive() == b"ping"
        peer.send(b"pong", turned=turned)
        if not turned:
            assert await streams[0].readexactly(4) == b"pong"
            return
        with pytest.raises(HandshakeError) as told:
            await peer.receive()
        assert str(told.value) == REFUSED
        with pytest.raises(ConnectionResetError):
            await rest(streams)
        assert await a.lines.outcome() == "HANDSHAKE_FAILED"
