"""A certificate that OpenSSL 3.6 compressed (RFC 8879) is told as any other, if it can be decompressed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from meshtls.capture.analysis.connection import Connection
from meshtls.capture.event_index import EventIndex
from meshtls.capture.events import MessageSeen
from meshtls.cli.main import main
from meshtls.wire.side import Side
from tests.support.packets import Talk
from tests.support.tls_capture import Tape, analyzed
from tests.unit.capture.openssl_3_6 import FLIGHTS, KEYS
from tests.unit.wire.tls import rfc8448
from tests.unit.wire.tls.test_tls_messages import compressed


def tape() -> Tape:
    tape, talk = Tape(), Talk(("10.0.0.1", 40001))
    tape.frames = [*talk.handshake(), *(talk.send(side, data) for side, data in FLIGHTS), *talk.close()]
    return tape


def told(directory: Path) -> Connection:
    keys = directory / "keys"
    keys.write_bytes(KEYS)
    (found,) = analyzed(tape(), keys)
    return found


def test_a_client_that_compresses_its_certificate_is_told_by_its_id(tmp_path: Path) -> None:
    found = told(tmp_path)
    client, server, handshake = found.client.peer, found.server.peer, found.handshake
    assert client is not None
    assert server is not None
    assert handshake is not None
    assert (client.spiffe_id, server.spiffe_id) == ("spiffe://a.test/client", "spiffe://a.test/web")
    assert (handshake.mutual, handshake.mutual_reason) == ("yes", "the client sent a certificate")
    assert (handshake.complete, handshake.decrypted, found.problem) == (True, True, "")


def test_without_the_decompressor_the_certificate_is_likely_and_the_reason_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zlib", None)
    found = told(tmp_path)
    assert (found.client.peer is None, found.server.peer is None) == (True, False)
    assert found.handshake is not None
    assert (found.handshake.mutual, found.handshake.mutual_likely) == ("unknown", "yes")
    assert found.handshake.mutual_reason == (
        "the client's certificate is compressed, and can't be read: "
        "byte 4: zlib is not installed: pip install 'meshtls[capture]'"
    )


@pytest.mark.parametrize("installed", [True, False])
def test_the_command_line_shows_the_certificate_within_the_message(
    installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "zlib", None)
    (tmp_path / "keys").write_bytes(KEYS)
    (tmp_path / "c.pcapng").write_bytes(tape().pcapng())
    command = ["capture", "analyze", str(tmp_path / "c.pcapng"), "--keylog", str(tmp_path / "keys"), "--detail", "1"]
    with pytest.raises(SystemExit, match=r"^0$"):
        main(command)
    shown = capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"^0$"):
        main([*command, "--output", "json"])
    events = json.loads(capsys.readouterr().out)["events"]
    held = [one["decompressed"] for one in events if "decompressed" in one]
    assert len(held) == 1
    if installed:
        assert shown.count("decompressed:") == 1
        assert "spiffe://a.test/client" in shown
        assert [one["name"] for one in held] == ["Certificate"]
    else:
        error = "byte 4: zlib is not installed: pip install 'meshtls[capture]'"
        assert shown.count(f"can't be decompressed: {error}") == 1
        assert held == [{"error": error}]


def test_the_index_has_a_compressed_certificate_as_a_certificate_if_it_can_be_decompressed() -> None:
    index = EventIndex()
    broken = MessageSeen(Side.SERVER, 2, 25, compressed(b"abc", 4), decrypted=True)
    index.take([MessageSeen(Side.CLIENT, 1, 25, compressed(rfc8448.CERTIFICATE[4:]), decrypted=True), broken])
    assert [one.kind for one in index.messages] == [25, 25]
    assert index.first[Side.CLIENT, 11].data == index.last[Side.CLIENT, 11].data == rfc8448.CERTIFICATE
    assert (Side.SERVER, 11) not in index.first
