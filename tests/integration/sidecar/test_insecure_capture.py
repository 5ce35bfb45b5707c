"""``insecure_capture``: what sidecars write without any right to capture, read by tshark and by our own reader."""

from __future__ import annotations

import asyncio
import logging
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from meshtls.address import Address
from meshtls.capture.events import ApplicationBytes, MessageSeen, Trouble
from meshtls.capture.files.reading import read_packets
from meshtls.capture.flow import Ending, Flow
from meshtls.capture.keylog import KeyLog
from meshtls.capture.session import TlsSession
from meshtls.capture.tcp import Flows
from meshtls.sidecar.settings import CaptureKeys, InboundConfig, OutboundConfig, SidecarConfig
from meshtls.svid.context import ConstantSource
from meshtls.wire.side import Side
from meshtls.wire.tls import HandshakeType
from tests.integration.cli.identity_site import tell
from tests.integration.sidecar.mesh import (
    ANYWHERE,
    DEFAULTS,
    A,
    B,
    Node,
    an_app,
    as_a,
    as_b,
    connected,
    echoed,
    running,
)
from tests.support.require import require
from tests.support.tls_capture import analyzed

MESSAGE = b"a message that is to stay between the two"
SIDECAR = """
name: web
spiffe_id: spiffe://a.test/web
outbound:
  - {listen: "127.0.0.1:0", to: "127.0.0.1:1", peer: "spiffe://a.test/db"}
insecure_capture: {file: a.pcapng}
"""


class Session:
    """A FlowSink: one connection, decrypted."""

    def __init__(self, flow: Flow, keys: KeyLog) -> None:
        self.flow, self.tls = flow, TlsSession(keys)

    def data(self, side: Side, data: bytes, time_ns: int, packet: int) -> None:
        self.tls.feed(side, data, time_ns)

    def gap(self, side: Side, missing: int, time_ns: int) -> None:
        raise AssertionError(f"{missing} bytes of {side} are missing")

    def ended(self, side: Side, how: Ending, time_ns: int) -> None:
        self.tls.end(side)

    def plaintext(self, side: Side) -> bytes:
        found = [one for one in self.tls.events if isinstance(one, ApplicationBytes) and one.side is side]
        return b"".join(one.plaintext or b"" for one in found)


def sessions(file: Path) -> list[Session]:
    """The connections of a file, by the secrets inside it."""
    keys, found = KeyLog(), list[Session]()

    def opened(flow: Flow) -> Session:
        found.append(Session(flow, keys))
        return found[-1]

    flows = Flows(opened)
    with file.open("rb") as stream:
        reader = read_packets(stream)
        for packet in reader:
            while reader.secrets:
                keys.feed(reader.secrets.pop(0))
            flows.packet(packet)
        flows.finish()
        assert reader.error is None
    return found


def sidecar_b(app: Address, file: Path, *, tunnel: bool = False, max_size: int = 1 << 26) -> SidecarConfig:
    inbound = InboundConfig(listen=ANYWHERE, app=app, allow=(A,), tunnel=tunnel)
    return SidecarConfig(
        name="b",
        spiffe_id=B,
        inbound=(inbound,),
        limits=DEFAULTS,
        insecure_capture=CaptureKeys(file=file, max_size=max_size),
    )


def sidecar_a(b: Node, file: Path, *, tunnel: bool = False) -> SidecarConfig:
    outbound = OutboundConfig(listen=ANYWHERE, to=b.inbound, peer=B, tunnel=tunnel)
    return SidecarConfig(
        name="a", spiffe_id=A, outbound=(outbound,), limits=DEFAULTS, insecure_capture=CaptureKeys(file=file)
    )


@pytest.mark.parametrize("tunnel", [False, True])
async def test_both_sidecars_write_their_connection_so_that_tshark_and_our_reader_decrypt_it(
    tmp_path: Path, tunnel: bool
) -> None:
    files = tmp_path / "a.pcapng", tmp_path / "b.pcapng"
    async with an_app() as app, running(sidecar_b(app.address, files[1], tunnel=tunnel), ConstantSource(as_b())) as b:
        port = b.inbound.port
        async with running(sidecar_a(b, files[0], tunnel=tunnel), ConstantSource(as_a())) as a:
            async with connected(a.outbound) as streams:
                assert await echoed(streams, MESSAGE) == MESSAGE
                streams[1].write_eof()
                assert await streams[0].read() == b""
            told = a.sidecar.readiness()
            assert (told.ready, told.text) == (
                True,
                f"INSECURE: connections are written to {files[0]} with their TLS secrets",
            )
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        [session] = sessions(file)
        assert [one for one in session.tls.events if isinstance(one, Trouble)] == []
        assert (MESSAGE in session.plaintext(Side.CLIENT), MESSAGE in session.plaintext(Side.SERVER)) == (True, True)
        certificates = [
            one.side
            for one in session.tls.events
            if isinstance(one, MessageSeen) and one.kind == HandshakeType.CERTIFICATE
        ]
        assert certificates == [Side.SERVER, Side.CLIENT]
        assert {half.address.port for half in session.flow.halves if half.side is Side.SERVER} == {port}
        [record] = analyzed(file.read_bytes())
        assert (record.synthetic, record.tcp_rtt_ms, record.overhead) == (True, None, None)
        text = await asyncio.to_thread(_tshark, file, port)
        assert text.count(MESSAGE.hex()) >= 2


def _tshark(file: Path, port: int) -> str:
    require("tshark", shutil.which("tshark") is not None, "no tshark")
    checks = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE")
    command = ["tshark", "-r", str(file), "-d", f"tcp.port=={port},tls", *checks]

    def run(*options: str) -> str:
        return subprocess.run([*command, *options], capture_output=True, text=True, timeout=120, check=True).stdout

    odd = "tcp.analysis.flags or tcp.checksum.status == 0 or ip.checksum.status == 0 or _ws.malformed"
    assert run("-Y", odd) == ""
    return "".join(run("-q", "-z", "follow,tls,raw,0").split())


async def test_at_its_size_the_file_ends_and_traffic_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = tmp_path / "a.pcapng", tmp_path / "b.pcapng"
    async with (
        an_app() as app,
        running(sidecar_b(app.address, files[1], max_size=1 << 16), ConstantSource(as_b())) as b,
        running(sidecar_a(b, files[0]), ConstantSource(as_a())) as a,
    ):
        message = bytes(1 << 18)
        with caplog.at_level(logging.WARNING, "meshtls.sidecar"):
            async with connected(a.outbound) as streams:
                assert await echoed(streams, message) == message
        assert caplog.messages[2:] == [
            f"insecure_capture: nothing more is written to {files[1]}: it has its max_size, 64KiB"
        ]
        assert b.sidecar.readiness().text.endswith("with their TLS secrets: ended, it has its max_size, 64KiB")
    assert files[1].stat().st_size <= 1 << 16
    assert len(sessions(files[1])) == 1
    assert files[0].stat().st_size > 1 << 19


def _refused(tmp_path: Path, text: str, *options: str) -> tuple[int, str]:
    file = tmp_path / "web.yaml"
    file.write_text(text)
    told = tell("sidecar", "run", "--config", file, *options)
    return told.code, told.err


def test_without_the_option_the_sidecar_does_not_start(tmp_path: Path) -> None:
    assert _refused(tmp_path, SIDECAR) == (
        2,
        f"meshtls: {tmp_path / 'web.yaml'}: insecure_capture: it lets whoever reads {tmp_path / 'a.pcapng'} read every"
        " connection; remove the key, or run with --allow-insecure-keylog while you debug\n",
    )
    assert not (tmp_path / "a.pcapng").exists()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("workers: 2\n", "wanted workers: 1, since they have one file, got 2"),
        ("insecure_keylog_file: k\n", "wanted it without insecure_keylog_file, since it has the secrets inside"),
    ],
)
def test_a_key_that_insecure_capture_excludes_is_refused(tmp_path: Path, more: str, reason: str) -> None:
    refused = _refused(tmp_path, SIDECAR.replace("127.0.0.1:0", "127.0.0.1:15001") + more, "--allow-insecure-keylog")
    assert refused == (2, f"meshtls: {tmp_path / 'web.yaml'}: insecure_capture: {reason}\n")


def test_validate_has_a_notice(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(SIDECAR)
    told = tell("sidecar", "validate", "--config", file)
    assert (
        f"INSECURE: all connections over the network are written to {tmp_path / 'a.pcapng'} with their TLS secrets;"
    ) in told.out
