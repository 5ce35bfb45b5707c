"""``insecure_capture``: connections that are no mutual TLS of the mesh: plaintext, and TLS to servers outside of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from meshtls.capture.files.reading import read_packets
from meshtls.capture.flow import Ending
from meshtls.capture.tcp import Flows
from meshtls.sidecar.config import load_config
from meshtls.sidecar.settings import CaptureKeys, InboundConfig, Mode, Protocol, SidecarConfig
from meshtls.svid.context import ConstantSource
from meshtls.wire.side import Side
from tests.integration.sidecar.governed import a_web_app
from tests.integration.sidecar.mesh import ANYWHERE, DEFAULTS, B, an_app, as_a, as_b, connected, echoed, running
from tests.integration.sidecar.test_insecure_capture import sessions
from tests.integration.sidecar.test_tls_origination import CA, HOST, SIMPLE, a_server, configured
from tests.support.packets import Kept, Seen

MESSAGE = b"a message in plaintext"
REQUEST = b"GET /paid HTTP/1.1\r\nHost: b.test\r\nConnection: close\r\n\r\n"


def streams_of(file: Path) -> list[Kept]:
    """What the file has of each connection."""
    seen = Seen()
    flows = Flows(seen.opened)
    with file.open("rb") as stream:
        reader = read_packets(stream)
        for packet in reader:
            flows.packet(packet)
    flows.finish()
    assert reader.error is None
    return seen.sinks


async def test_a_plaintext_client_of_a_permissive_listener_is_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "b.pcapng"
    async with an_app() as app:
        inbound = InboundConfig(listen=ANYWHERE, app=app.address, mode=Mode.PERMISSIVE, protocol=Protocol.TCP)
        config = SidecarConfig(
            name="b", spiffe_id=B, inbound=(inbound,), limits=DEFAULTS, insecure_capture=CaptureKeys(file=file)
        )
        async with running(config, ConstantSource(as_b())) as b, connected(b.inbound) as streams:
            assert await echoed(streams, MESSAGE) == MESSAGE
            assert await echoed(streams, MESSAGE) == MESSAGE
            streams[1].write_eof()
            assert await streams[0].read() == b""
            await b.lines.next()
    [kept] = streams_of(file)
    for side in Side:
        assert (kept.stream(side), kept.ending(side)) == ([MESSAGE * 2], Ending.FIN)


async def test_its_requests_are_in_the_file_as_it_sent_them(tmp_path: Path) -> None:
    file = tmp_path / "b.pcapng"
    async with a_web_app() as app:
        inbound = InboundConfig(listen=ANYWHERE, app=app.address, mode=Mode.PERMISSIVE, protocol=Protocol.HTTP)
        config = SidecarConfig(
            name="b", spiffe_id=B, inbound=(inbound,), limits=DEFAULTS, insecure_capture=CaptureKeys(file=file)
        )
        async with running(config, ConstantSource(as_b())) as b, connected(b.inbound) as streams:
            streams[1].write(REQUEST)
            answer = await streams[0].read()
            await b.lines.next()
    [kept] = streams_of(file)
    assert answer.startswith(b"HTTP/1.1 ")
    assert (kept.stream(Side.CLIENT), kept.stream(Side.SERVER)) == ([REQUEST], [answer])


@pytest.mark.parametrize("tls", ["mode: DISABLE", SIMPLE])
async def test_bytes_that_a_destination_rule_sends_in_plaintext_or_to_a_server_outside_are_in_the_file(
    tmp_path: Path, tls: str
) -> None:
    file = tmp_path / "a.pcapng"
    async with an_app() as app, a_server(CA.issue_cert(HOST)) as server:
        to = server.address if tls == SIMPLE else app.address
        config = load_config(configured(tmp_path, to, tls))
        config = msgspec.structs.replace(config, insecure_capture=CaptureKeys(file=file))
        async with running(config, ConstantSource(as_a())) as a, connected(a.outbound) as streams:
            assert await echoed(streams, MESSAGE) == MESSAGE
            streams[1].write_eof()
            assert await streams[0].read() == b""
            await a.lines.next()
    [kept] = streams_of(file)
    if tls == SIMPLE:
        [session] = sessions(file)
        assert str(session.flow.server.address) == str(to)
        assert [session.plaintext(side) for side in Side] == [MESSAGE, MESSAGE]
        assert MESSAGE not in file.read_bytes()
    else:
        assert [kept.stream(side) for side in Side] == [[MESSAGE], [MESSAGE]]
