"""Live connections of ``dial`` and ``listen`` follow the trust of their sources: cut off, or kept in a rotation."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
import requests

from examples import aiohttp_server
from meshtls import authorize_any, client_context, server_context
from meshtls.bundle import BundleSet
from meshtls.clock import SystemClock
from meshtls.errors import PeerError, RevokedError
from meshtls.integrations.requests import MeshAdapter
from meshtls.revocation.building import CrlEntry, build_crl
from meshtls.revocation.crl import parse_crl
from meshtls.revocation.lists import CrlLists
from meshtls.svid.trust import Revocations
from meshtls.svid.x509 import X509Svid
from meshtls.tls.streams import Listener, dial, listen
from tests.integration.library.served import served as serving_http
from tests.integration.sidecar.test_trust_changes import Turning
from tests.support.authority import context_for, make_authority
from tests.support.waiting import SECONDS, until

OLD, NEW = make_authority("example.org"), make_authority("example.org")
CLIENT, SERVER = "spiffe://example.org/client", "spiffe://example.org/server"
CLOCK = SystemClock()
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def revoked(svid: X509Svid) -> Revocations:
    """By the CRL of its intermediate."""
    now, signer = CLOCK.now(), OLD.intermediate
    der = build_crl(
        signer.certificate,
        signer.private_key,
        [CrlEntry(svid.leaf.serial_number, now)],
        number=1,
        now=now - timedelta(minutes=1),
        next_update=now + timedelta(hours=1),
    )
    return Revocations(lists=CrlLists((parse_crl(der),)))


class Served:
    """An echoing listener; ``errors`` are what its handlers ended with."""

    def __init__(self) -> None:
        self.source = Turning(context_for(OLD, SERVER))
        self.errors: asyncio.Queue[Exception | None] = asyncio.Queue()
        self.listener: Listener
        self.dialled: list[asyncio.StreamWriter] = []
        self.accepted: list[asyncio.StreamWriter] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.append(writer)
        try:
            while data := await reader.read(100):
                writer.write(data)
        except Exception as error:
            self.errors.put_nowait(error)
            raise
        self.errors.put_nowait(None)


@asynccontextmanager
async def serving() -> AsyncIterator[Served]:
    served = Served()
    served.listener = await listen("127.0.0.1", 0, served.source, authorize_any(), served.handle)
    async with served.listener:
        try:
            yield served
        finally:
            for writer in served.dialled:
                writer.close()
                with contextlib.suppress(OSError, PeerError):
                    await writer.wait_closed()


async def dialled(served: Served, source: Turning) -> Streams:
    reader, writer = await dial(*served.listener.address, source, authorize_any(), timeout=SECONDS)
    served.dialled.append(writer)
    return reader, writer


async def echoed(streams: Streams) -> bool:
    streams[1].write(b"ping")
    return await asyncio.wait_for(streams[0].read(4), SECONDS) == b"ping"


async def test_a_server_cuts_off_a_client_that_was_revoked_and_serves_another() -> None:
    async with serving() as served:
        one, two = Turning(context_for(OLD, CLIENT)), Turning(context_for(OLD, CLIENT))
        first, second = await dialled(served, one), await dialled(served, two)
        assert (await echoed(first), await echoed(second)) == (True, True)
        served.source.turn(OLD.bundle, revoked=revoked(one.context.svid))
        error = await asyncio.wait_for(served.errors.get(), SECONDS)
        assert isinstance(error, RevokedError)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(first[0].read(1), SECONDS)
        assert await echoed(second)


async def test_a_client_cuts_off_a_server_that_was_revoked_and_reads_raise_why() -> None:
    async with serving() as served:
        source = Turning(context_for(OLD, CLIENT))
        streams = await dialled(served, source)
        other = await dialled(served, Turning(context_for(OLD, CLIENT)))
        assert (await echoed(streams), await echoed(other)) == (True, True)
        source.turn(OLD.bundle, revoked=revoked(served.source.context.svid))
        with pytest.raises(RevokedError):
            await asyncio.wait_for(streams[0].read(1), SECONDS)
        assert await echoed(other)


async def test_connections_live_through_a_rotation_and_new_ones_use_the_new_root() -> None:
    async with serving() as served:
        source = Turning(context_for(OLD, CLIENT))
        streams = await dialled(served, source)
        both = BundleSet([replace(OLD.bundle, x509_authorities=(*OLD.bundle.x509_authorities, NEW.root))])
        for side, name in ((source, CLIENT), (served.source, SERVER)):
            side.turn(*both)
            assert await echoed(streams)
            side.context = replace(side.context, svids=context_for(NEW, name).svids)
            side.turn(*both)
            assert await echoed(streams)
        fresh = await dialled(served, source)
        assert await echoed(fresh)
        # The old root leaves: what hangs on it ends, and the new connection goes on.
        source.turn(NEW.bundle)
        with pytest.raises(Exception, match="no path to a root"):
            await asyncio.wait_for(streams[0].read(1), SECONDS)
        assert await echoed(fresh)


@asynccontextmanager
async def serving_in_a_context(source: Turning, errors: asyncio.Queue[Exception | None]) -> AsyncIterator[int]:
    """asyncio's own TLS over a ``server_context``, echoing; ``errors`` are what the handlers ended with."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended: Exception | None = None
        try:
            while data := await reader.read(100):
                writer.write(data)
        except OSError as error:
            ended = error
        writer.close()
        errors.put_nowait(ended)

    async with await asyncio.start_server(
        handle, "127.0.0.1", 0, ssl=server_context(source, authorize_any())
    ) as server:
        yield server.sockets[0].getsockname()[1]


async def connected(port: int, source: Turning) -> Streams:
    return await asyncio.open_connection(
        "127.0.0.1", port, ssl=client_context(source, authorize_any()), server_hostname=""
    )


async def test_a_server_of_another_library_takes_nothing_more_from_a_client_that_was_revoked() -> None:
    source, errors = Turning(context_for(OLD, SERVER)), asyncio.Queue[Exception | None]()
    async with serving_in_a_context(source, errors) as port:
        one = Turning(context_for(OLD, CLIENT))
        first, second = await connected(port, one), await connected(port, Turning(context_for(OLD, CLIENT)))
        assert (await echoed(first), await echoed(second)) == (True, True)
        source.turn(OLD.bundle, revoked=revoked(one.context.svid))
        first[1].write(b"ping")
        error = await asyncio.wait_for(errors.get(), SECONDS)
        assert isinstance(error, ssl.SSLCertVerificationError)
        assert "revoked" in str(error)
        assert await echoed(second)
        for _, writer in (first, second):
            writer.transport.abort()


async def test_a_client_of_another_library_sends_nothing_more_to_a_server_that_was_revoked() -> None:
    server = Turning(context_for(OLD, SERVER))
    async with serving_in_a_context(server, asyncio.Queue()) as port:
        source = Turning(context_for(OLD, CLIENT))
        streams, other = await connected(port, source), await connected(port, Turning(context_for(OLD, CLIENT)))
        assert (await echoed(streams), await echoed(other)) == (True, True)
        source.turn(OLD.bundle, revoked=revoked(server.context.svid))
        streams[1].write(b"ping")
        with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
            await asyncio.wait_for(streams[0].read(4), SECONDS)
        assert await echoed(other)
        other[1].transport.abort()


@pytest.mark.parametrize("is_revoked", [True, False])
async def test_a_blocking_read_that_began_before_a_revocation_gives_nothing(is_revoked: bool) -> None:
    async with serving() as served:
        source = Turning(context_for(OLD, CLIENT))
        context = client_context(source, authorize_any())

        def call() -> bytes:
            with socket.create_connection(served.listener.address) as plain, context.wrap_socket(plain) as tls:
                tls.settimeout(SECONDS)
                tls.sendall(b"ping")
                assert tls.recv(4) == b"ping"
                loop.call_soon_threadsafe(reading.set)
                first = tls.recv(4)
                tls.sendall(first)
                return first

        loop, reading = asyncio.get_running_loop(), asyncio.Event()
        calling = asyncio.create_task(asyncio.to_thread(call))
        await asyncio.wait_for(reading.wait(), SECONDS)
        source.turn(OLD.bundle, revoked=revoked(served.source.context.svid) if is_revoked else Revocations())
        [writer] = served.accepted
        writer.write(b"late")
        if is_revoked:
            with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
                await calling
        else:
            assert await calling == b"late"


async def test_a_pooled_connection_of_requests_to_a_revoked_server_is_not_used_again() -> None:
    server = Turning(context_for(OLD, SERVER))
    source = Turning(context_for(OLD, CLIENT))
    async with serving_http(aiohttp_server.serving, server_context(server, authorize_any())) as address:
        with requests.Session() as session:
            session.mount("https://", MeshAdapter(client_context(source, authorize_any())))
            got = partial(session.get, f"https://{address}/", timeout=SECONDS)
            assert [(await asyncio.to_thread(got)).ok for _ in range(2)] == [True, True]
            source.turn(OLD.bundle, revoked=revoked(server.context.svid))
            with pytest.raises(requests.exceptions.SSLError, match="revoked"):
                await asyncio.to_thread(got)


async def test_a_connection_that_ends_leaves_no_task_behind() -> None:
    async with serving() as served:
        before = asyncio.all_tasks()
        streams = await dialled(served, Turning(context_for(OLD, CLIENT)))
        assert await echoed(streams)
        streams[1].close()
        await streams[1].wait_closed()
        assert await asyncio.wait_for(served.errors.get(), SECONDS) is None
        await until(lambda: not asyncio.all_tasks() - before)
