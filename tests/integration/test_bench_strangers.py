"""The strangers' benchmark works from end to end on a tiny scale; costs are not asserted."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from bench.peers.base import Side
from bench.report import PeerInfo
from bench.strangers.attacks import STRANGERS, Stranger
from bench.strangers.cli import plain
from bench.strangers.figures import Scale, StrangersReport
from bench.strangers.friend import Friend
from bench.strangers.run import measure_all
from bench.strangers.targets import Contender, Ground, Listener, Target, all_contenders
from meshtls.errors import ConfigError
from meshtls.tls.context import TlsOptions
from tests.support.require import require

ROOT = Path(__file__).resolve().parents[2]
TINY = Scale(
    handshakes=3,
    held=3,
    held_seconds=0.05,
    connections=8,
    resets=100,
    messages=2,
    message_bytes=64 << 20,
    guesses=3,
    sweep=1,
    calm_seconds=0.05,
    beside_seconds=0.05,
    storm_seconds=60.0,
    kinds=2,
)
MESHTLS = next(one for one in all_contenders(ROOT) if one.name == "meshtls")
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(autouse=True)
def x25519() -> None:
    """Skip without X25519: all contenders use it, and the ``ssl`` module before Python 3.11.4 does not know it."""
    try:
        TlsOptions(group="X25519")
    except ConfigError as error:
        require("x25519", False, str(error))


async def measured(contender: Contender, stranger: Stranger) -> StrangersReport:
    infos = [PeerInfo(contender.name, "1")]
    return await measure_all([contender], [stranger], TINY, rounds=1, progress=lambda _: None, infos=infos)


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda one: one.name)
async def test_a_stranger_at_our_listener_is_refused_and_has_figures(stranger: Stranger) -> None:
    report = await measured(MESHTLS, stranger)
    assert report.errors() == []
    [cell] = report.cells
    assert (cell.peer, cell.stranger, cell.strangers) == ("meshtls", stranger.name, stranger.count(TINY))
    assert cell.cpu_ms is not None
    assert cell.cpu_ms > 0
    assert (cell.friends > 0, cell.friends_failed) == (not stranger.burst, 0)
    assert bool(cell.chain) is stranger.chosen_chain
    assert msgspec.json.decode(msgspec.json.encode(report), type=StrangersReport) == report
    assert f"| {stranger.title} | meshtls | " in plain(report)


class Lenient:
    name = "lenient"

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return "1"


@asynccontextmanager
async def lenient(ground: Ground) -> AsyncIterator[Target]:
    """A server that requests a certificate and serves every client."""
    own, friend = ground.certs.sides[Side.SERVER], ground.certs.sides[Side.CLIENT]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.chain, own.key)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        asks = Friend(port, chain=str(friend.chain), key=str(friend.key), roots=str(ground.certs.roots))
        yield Target(port, [os.getpid()], asks)


async def test_a_stranger_that_is_served_is_an_error_and_not_a_figure() -> None:
    foreign = next(one for one in STRANGERS if one.name == "foreign-certificate")
    report = await measured(Contender(Lenient(), {Listener.MTLS: lenient}), foreign)
    assert [cell.error for cell in report.errors()] == ["4 of 4 strangers were served"]
    assert report.summary == []
    assert "| certificate of another CA | lenient | failed | - |" in plain(report)


async def test_a_listener_that_serves_no_friend_is_an_error() -> None:
    @asynccontextmanager
    async def strange(ground: Ground) -> AsyncIterator[Target]:
        async with lenient(ground) as target:
            foreign = str(ground.certs.sides[Side.SERVER].chain)
            yield Target(target.port, target.pids, msgspec.structs.replace(target.friend, roots=foreign, start_s=0.5))

    foreign = next(one for one in STRANGERS if one.name == "foreign-certificate")
    report = await measured(Contender(Lenient(), {Listener.MTLS: strange}), foreign)
    [cell] = report.errors()
    assert "wanted an answer within 0.5 s" in str(cell.error)


def test_the_command_measures_our_peer_alone_and_prints_json(tmp_path: Path) -> None:
    options = ["--quick", "--only", "meshtls", "--stranger", "plaintext", "--output", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.strangers", *options, "--results", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    report = msgspec.json.decode(done.stdout, type=StrangersReport)
    assert [(one.peer, one.stranger, one.friends_failed) for one in report.summary] == [("meshtls", "plaintext", 0)]
    assert (tmp_path / "strangers.json").read_bytes() == done.stdout
