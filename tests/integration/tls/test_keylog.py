"""``insecure_keylog_file``: tshark decrypts a captured session with it, and nothing is written without it."""

from __future__ import annotations

import asyncio
import logging
import stat
from pathlib import Path

import pytest

from meshtls.bundle import BundleSet
from meshtls.errors import ConfigError
from meshtls.policy.authorizer import authorize_any
from meshtls.sidecar.settings import InboundConfig, SidecarConfig
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import ConstantSource, X509Context
from meshtls.tls.context import TlsOptions
from meshtls.tls.rotating import client_context, server_context
from meshtls.tls.streams import dial, listen
from tests.integration.sidecar.mesh import ANYWHERE, A, B, an_app, as_a, as_b, connected, echoed, running
from tests.support.authority import make_authority, svid_for
from tests.support.capture import captured, decrypted

AUTHORITY = make_authority("a.test")
WEB = SpiffeId.parse("spiffe://a.test/web")
MESSAGE = "a message that is to stay between the two"


def source() -> ConstantSource:
    return ConstantSource(X509Context(1, (svid_for(AUTHORITY, WEB),), BundleSet([AUTHORITY.bundle])))


async def _exchange(options: TlsOptions, capture: Path) -> int:
    """Carry MESSAGE from a client with these options to a server without any; returns the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()

    async with await listen("127.0.0.1", 0, source(), authorize_any(), serve) as listener:
        port = int(listener.address[1])
        async with captured(port, capture):
            reader, writer = await dial("127.0.0.1", port, source(), authorize_any(), options=options)
            writer.write(f"{MESSAGE}\n".encode())
            assert await reader.readline() == f"{MESSAGE}\n".encode()
            writer.close()
    return port


async def test_tshark_decrypts_a_session_of_the_library(tmp_path: Path) -> None:
    keylog, capture = tmp_path / "keys.log", tmp_path / "a.pcap"
    port = await _exchange(TlsOptions(insecure_keylog_file=keylog), capture)
    assert MESSAGE in await decrypted(capture, port, keylog, MESSAGE)
    assert stat.S_IMODE(keylog.stat().st_mode) == 0o600


async def test_without_the_option_nothing_is_written_and_the_session_stays_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keylog, capture = tmp_path / "keys.log", tmp_path / "a.pcap"
    monkeypatch.setenv("SSLKEYLOGFILE", str(keylog))
    port = await _exchange(TlsOptions(), capture)
    assert not keylog.exists()
    keylog.touch()
    text = await decrypted(capture, port, keylog, "Follow: tls,ascii")
    assert MESSAGE not in text
    assert MESSAGE.encode() not in capture.read_bytes()


async def test_tshark_decrypts_a_session_of_a_sidecar(tmp_path: Path) -> None:
    keylog, capture = tmp_path / "keys.log", tmp_path / "a.pcap"
    async with an_app() as app:
        inbound = InboundConfig(listen=ANYWHERE, app=app.address, allow=(A,))
        config = SidecarConfig(name="b", spiffe_id=B, inbound=(inbound,), insecure_keylog_file=keylog)
        async with running(config, ConstantSource(as_b())) as node:
            port = node.inbound.port
            async with captured(port, capture):
                context = client_context(ConstantSource(as_a()), authorize_any())
                async with connected(node.inbound, context) as streams:
                    assert await echoed(streams, MESSAGE.encode()) == MESSAGE.encode()
            told = node.sidecar.readiness()
            assert (told.ready, told.text) == (True, f"INSECURE: TLS secrets are written to {keylog}")
    assert MESSAGE in await decrypted(capture, port, keylog, MESSAGE)


@pytest.mark.parametrize("make", [client_context, server_context])
def test_each_context_that_writes_secrets_is_logged(
    make: type, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keylog = tmp_path / "keys.log"
    with caplog.at_level(logging.WARNING):
        make(source(), authorize_any(), options=TlsOptions(insecure_keylog_file=keylog))
        assert caplog.messages == [
            f"INSECURE: the secrets of each TLS connection are written to {keylog} (insecure_keylog_file):"
            " whoever reads it can decrypt them"
        ]
        caplog.clear()
        made = make(source(), authorize_any())
        assert caplog.messages == []
    with pytest.raises(ValueError, match="this context keeps None"):
        made.keylog_filename = str(keylog)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    keylog, link = tmp_path / "keys.log", tmp_path / "link"
    keylog.touch(mode=0o600)
    options = TlsOptions(insecure_keylog_file=keylog)
    client_context(source(), authorize_any(), options=options)
    keylog.chmod(0o640)
    with pytest.raises(ConfigError) as refused:
        client_context(source(), authorize_any(), options=options)
    assert str(refused.value) == f"{keylog}: mode 0640 gives other users access to secrets; run chmod 600 {keylog}"
    link.symlink_to(keylog)
    with pytest.raises(ConfigError) as refused:
        client_context(source(), authorize_any(), options=TlsOptions(insecure_keylog_file=link))
    assert str(refused.value) == f"{link}: wanted a file to write secrets to: Too many levels of symbolic links"
