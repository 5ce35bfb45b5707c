"""A real Envoy with certificates and bundles from our SDS: mutual TLS with our streams, in both directions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.bundle import TrustBundle
from meshtls.ca.profile import Signer, leaf_certificate
from meshtls.errors import PeerError
from meshtls.policy.authorizer import authorize_any, authorize_id
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import ConstantSource, X509Context, X509ContextSource
from meshtls.svid.verify import VerifiedPeer
from meshtls.svid.x509 import X509Svid
from meshtls.tls.streams import dial, listen
from meshtls.workload.x509_source import X509Source
from tests.support.agent import Mesh, agent_at, entry, short_directory
from tests.support.authority import Leaf, context_for, csr_for, make_authority, mint_raw
from tests.support.clock import ManualClock
from tests.support.envoy import Door, Envoy, envoy_binary, running_envoy

ENVOY, APP = "spiffe://example.org/envoy", "spiffe://example.org/app"
PARTNER = make_authority("partner.org")
HELLO = b"hello over there\n"


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as made:
        yield made


@asynccontextmanager
async def mesh_at(directory: Path) -> AsyncIterator[Mesh]:
    """An agent that distinguishes Envoy and the test by their programs. After a rotation both SVIDs are valid."""
    clock = ManualClock(datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=32))
    entries = [
        entry("/envoy", f"unix:path:{envoy_binary()}", federates_with=["partner.org"]),
        entry("/envoy-too", f"unix:path:{envoy_binary()}", hint="second"),
        entry("/app", f"unix:path:{os.readlink('/proc/self/exe')}"),
    ]
    async with agent_at(directory / "agent.sock", *entries, clock=clock, federated=[PARTNER.bundle]) as mesh:
        yield mesh


@asynccontextmanager
async def meshed_envoy(
    directory: Path, *doors: Door, delta: bool = False
) -> AsyncIterator[tuple[Mesh, Envoy, X509Source]]:
    """The mesh, an Envoy with these listeners, and our own source."""
    async with AsyncExitStack() as stack:
        mesh = await stack.enter_async_context(mesh_at(directory))
        source = await stack.enter_async_context(X509Source(mesh.agent.address))
        socket = mesh.agent.endpoint.socket_path
        yield mesh, await stack.enter_async_context(running_envoy(directory, socket, doors, delta=delta)), source


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while line := await reader.readline():
            writer.write(line)
    finally:
        writer.close()


class Line:
    """One connection that carries lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def echoed(self, said: bytes = HELLO) -> bytes:
        self.writer.write(said)
        return await self.reader.readline()

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError, PeerError):
            await self.writer.wait_closed()

    @property
    def peer(self) -> VerifiedPeer:
        peer = self.writer.get_extra_info("ssl_object").peer
        assert isinstance(peer, VerifiedPeer)
        return peer


async def to_envoy(envoy: Envoy, source: X509ContextSource, door: str = "in") -> Line:
    return Line(*await dial("127.0.0.1", await envoy.port(door), source, authorize_id(ENVOY)))


async def plain(envoy: Envoy, door: str) -> Line:
    return Line(*await asyncio.open_connection("127.0.0.1", await envoy.port(door)))


async def refused(line: Line) -> bool:
    """Whether the peer closed the connection without a byte of a response."""
    try:
        return await line.echoed() == b""
    except (PeerError, ConnectionError):
        return True
    finally:
        await line.close()


@pytest.mark.parametrize("delta", [False, True], ids=["state of the world", "delta"])
async def test_envoy_terminates_mutual_tls_and_follows_a_rotation_without_dropping_a_connection(
    directory: Path, delta: bool
) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    doors = [Door("in", server.sockets[0].getsockname()[1], "in", (APP,))]
    async with server, meshed_envoy(directory, *doors, delta=delta) as (mesh, envoy, source):
        old = await to_envoy(envoy, source)
        assert await old.echoed() == HELLO
        mesh.clock.advance(1801)
        new = await _with_another_serial(envoy, source, old.peer.serial)
        assert (await new.echoed(), await old.echoed()) == (HELLO, HELLO)
        assert new.peer.not_after - old.peer.not_after == timedelta(seconds=1801)
        for line in (old, new):
            await line.close()


async def _with_another_serial(envoy: Envoy, source: X509ContextSource, serial: str) -> Line:
    while True:
        line = await to_envoy(envoy, source)
        if line.peer.serial != serial:
            return line
        await line.close()


@pytest.mark.parametrize("delta", [False, True], ids=["state of the world", "delta"])
async def test_envoy_originates_mutual_tls_and_follows_a_rotation_without_dropping_a_connection(
    directory: Path, delta: bool
) -> None:
    serials: list[str] = []

    async def noting_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serials.append(Line(reader, writer).peer.serial)
        await echo(reader, writer)

    async with mesh_at(directory) as mesh, X509Source(mesh.agent.address) as source, AsyncExitStack() as stack:
        server = await listen("127.0.0.1", 0, source, authorize_id(ENVOY), noting_echo)
        await stack.enter_async_context(server)
        doors = [Door("out", server.address[1], "out", (APP,))]
        socket = mesh.agent.endpoint.socket_path
        envoy = await stack.enter_async_context(running_envoy(directory, socket, doors, delta=delta))
        old = await plain(envoy, "out")
        assert await old.echoed() == HELLO
        mesh.clock.advance(1801)
        while len(set(serials)) == 1:
            new = await plain(envoy, "out")
            assert await new.echoed() == HELLO
            await new.close()
        assert await old.echoed() == HELLO
        await old.close()


async def test_envoy_refuses_a_client_with_another_id(directory: Path) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    doors = [Door("in", server.sockets[0].getsockname()[1], "in", (APP,))]
    verdicts = {}
    async with server, meshed_envoy(directory, *doors) as (mesh, envoy, _):
        for path in ("/app", "/stranger"):
            line = await to_envoy(envoy, ConstantSource(context_for(mesh.authority, path)))
            verdicts[path] = await refused(line)
    assert verdicts == {"/app": False, "/stranger": True}


async def test_envoy_holds_a_server_below_ours_to_its_trust_domain(directory: Path) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    partners = "spiffe://partner.org/app"
    doors = [Door("in", server.sockets[0].getsockname()[1], "in", (APP, partners), trust="ROOTCA")]
    verdicts = {}
    async with server, meshed_envoy(directory, *doors) as (mesh, envoy, _):
        key = ec.generate_private_key(ec.SECP256R1())
        request = csr_for(key, None).public_bytes(Encoding.DER)
        [ca] = mesh.authority.sign_ca(request, timedelta(hours=1)).chain
        for name in (APP, partners):
            own = ec.generate_private_key(ec.SECP256R1())
            made = leaf_certificate(
                SpiffeId.parse(name), own.public_key(), (), Signer(ca, key), mesh.clock.now(), timedelta(hours=1)
            )
            context = X509Context(1, (X509Svid.from_chain((made, ca), own),), mesh.upstream.bundles)
            verdicts[name] = await refused(await to_envoy(envoy, ConstantSource(context)))
    assert verdicts == {APP: False, partners: True}


async def test_envoy_refuses_a_server_with_another_id(directory: Path) -> None:
    async with mesh_at(directory) as mesh, X509Source(mesh.agent.address) as source, AsyncExitStack() as stack:
        server = await stack.enter_async_context(await listen("127.0.0.1", 0, source, authorize_any(), echo))
        port = server.address[1]
        doors = [Door("right", port, "out", (APP,)), Door("wrong", port, "out", ("spiffe://example.org/other",))]
        envoy = await stack.enter_async_context(running_envoy(directory, mesh.agent.endpoint.socket_path, doors))
        verdicts = {door.name: await refused(await plain(envoy, door.name)) for door in doors}
    assert verdicts == {"right": False, "wrong": True}


async def test_envoy_judges_a_peer_by_the_bundle_of_its_own_trust_domain(directory: Path) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    partners = "spiffe://partner.org/app"
    doors = [
        Door("all", port, "in", (APP, partners), trust="ALL"),
        Door("ours", port, "in", (APP, partners), trust="ROOTCA"),
        Door("theirs", port, "in", (APP, partners), trust="spiffe://partner.org"),
    ]
    async with server, meshed_envoy(directory, *doors) as (mesh, envoy, _):
        ours_by_them = X509Context(1, (mint_raw(PARTNER, Leaf(uris=(APP,))),), mesh.upstream.bundles)
        contexts = {
            "our app": context_for(mesh.authority, APP),
            "their app": context_for(PARTNER, partners, federated=[mesh.authority.bundle]),
            "our app, said their CA": ours_by_them,
        }
        got_in = {
            (who, door.name)
            for who, context in contexts.items()
            for door in doors
            if not await refused(await to_envoy(envoy, ConstantSource(context), door.name))
        }
    assert got_in == {("our app", "all"), ("our app", "ours"), ("their app", "all"), ("their app", "theirs")}


@pytest.mark.parametrize("delta", [False, True], ids=["state of the world", "delta"])
async def test_envoy_forgets_the_roots_of_a_trust_domain_of_which_nobody_is_trusted(
    directory: Path, delta: bool
) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    partners = "spiffe://partner.org/app"
    doors = [
        Door(name, server.sockets[0].getsockname()[1], "in", (partners,), trust=trust)
        for name, trust in (("all", "ALL"), ("theirs", "spiffe://partner.org"))
    ]
    async with server, meshed_envoy(directory, *doors, delta=delta) as (mesh, envoy, _):
        theirs = ConstantSource(context_for(PARTNER, partners, federated=[mesh.authority.bundle]))
        for door in doors:
            assert not await refused(await to_envoy(envoy, theirs, door.name))
        mesh.upstream.put_bundle(TrustBundle(PARTNER.trust_domain))
        for door in doors:
            while not await refused(await to_envoy(envoy, theirs, door.name)):
                pass
        mesh.upstream.put_bundle(PARTNER.bundle)
        for door in doors:
            while await refused(await to_envoy(envoy, theirs, door.name)):
                pass


async def test_several_names_are_served_at_once_and_each_certificate_is_the_one_asked_for(directory: Path) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    names = {"default": ENVOY, ENVOY: ENVOY, f"{ENVOY}-too": f"{ENVOY}-too"}
    doors = [Door(name, port, "in", (APP,), certificate=name) for name in names]
    shown = {}
    async with server, meshed_envoy(directory, *doors) as (_, envoy, source):
        for name in names:
            line = Line(*await dial("127.0.0.1", await envoy.port(name), source, authorize_any()))
            shown[name] = str(line.peer.spiffe_id)
            await line.close()
    assert shown == names
