"""Two trust domains, each with a server, an agent and workloads as processes, that exchange their bundles."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from meshtls.errors import NoBundleError, PeerError
from meshtls.policy.authorizer import Authorizer, authorize_any, authorize_id
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import ConstantSource, X509Context, X509ContextSource
from meshtls.tls.streams import Listener, dial, listen
from meshtls.workload.x509_source import X509Source
from tests.integration.cli.identity_site import tell
from tests.integration.cli.kept_app import answer, failure_of_new_connection, kept_app
from tests.integration.cli.processes import started
from tests.integration.federation.sites import Domain, Load, domain, until
from tests.support.authority import Leaf, mint_raw
from tests.support.bundle_partner import partner
from tests.support.envoy import Door, envoy_binary, running_envoy
from tests.support.ports import free_ports

pytestmark = pytest.mark.timeout(1500)  # many programs are started, on a machine that may be busy
WEB, APP = "spiffe://a.test/web", "spiffe://b.test/app"
_SECONDS = 240


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Domain, Domain]]:
    with domain("a.test") as a, domain("b.test") as b:
        a.federate(b)
        b.federate(a)
        a.entry("/web", "--federates-with", "b.test")
        b.entry("/app", "--federates-with", "a.test")
        yield a, b


def _refederate(one: Domain, other: Domain) -> None:
    """After a test that has ended the relation."""
    if not one.json("federation", "list")["relations"]:
        one.federate(other)


@contextmanager
def sidecars(a: Domain, b: Domain, directory: Path, tunnel: str) -> Iterator[int]:
    """One of ``WEB`` in a and one of ``APP`` in b with an app behind it; yields the port that leads there."""
    out, into, *health = free_ports(4)
    identities = (f"identity: {{workload_api: 'unix:{one.workload_socket}'}}\n" for one in (a, b))
    with ExitStack() as stack:
        app = stack.enter_context(kept_app())
        (directory / "a.yaml").write_text(
            f"name: a\nspiffe_id: {WEB}\n{next(identities)}outbound:\n"
            f'  - {{listen: "127.0.0.1:{out}", to: "127.0.0.1:{into}", peer: "{APP}", tunnel: {tunnel}}}\n'
            f'health: "127.0.0.1:{health[0]}"\n'
        )
        (directory / "b.yaml").write_text(
            f"name: b\nspiffe_id: {APP}\n{next(identities)}inbound:\n"
            f'  - {{listen: "127.0.0.1:{into}", app: "127.0.0.1:{app}", allow: ["{WEB}"], tunnel: {tunnel}}}\n'
            f'health: "127.0.0.1:{health[1]}"\n'
        )
        for name in "ba":
            config = directory / f"{name}.yaml"
            stack.enter_context(started("sidecar", "run", "--config", config))
            until(lambda config=config: tell("sidecar", "healthcheck", "--config", config).code == 0)  # type: ignore[misc]
        yield out


def is_closed(sock: socket.socket) -> bool:
    """Wait for the end of the connection."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def is_answered(port: int) -> bool:
    return failure_of_new_connection(port, _SECONDS) is None


@pytest.mark.parametrize("tunnel", ["false", "true"], ids=["streams", "tunnel"])
def test_no_connection_fails_while_either_side_replaces_its_authority_and_defederation_ends_them(
    pair: tuple[Domain, Domain], tmp_path: Path, tunnel: str
) -> None:
    a, b = pair
    _refederate(a, b)
    with sidecars(a, b, tmp_path, tunnel) as port:
        until(lambda: is_answered(port))
        load = Load(port)
        try:
            # The other side fetches the prepared authority by itself, at its refresh hint.
            for one, other in ((a, b), (b, a)):
                before = one.relation(other.name)["x509_authorities"]
                other.rotate(lambda one=one, other=other: one.relation(other.name)["x509_authorities"] == before + 1)  # type: ignore[misc]  # noqa: B023
                until(lambda one=one, other=other: one.relation(other.name)["x509_authorities"] == 1)  # type: ignore[misc]
            done = load.done
            until(lambda: load.done > done + 20)
        finally:
            load.stop()
        assert (load.failures, load.done > 40) == ([], True)

        with closing(HTTPConnection("127.0.0.1", port, timeout=_SECONDS)) as live:
            assert (answer(live), answer(live)) == (200, 200)
            assert live.sock is not None
            live.sock.settimeout(_SECONDS)
            a.json("federation", "delete", "--trust-domain", b.name)
            assert is_closed(live.sock)
        until(lambda: not is_answered(port))
        a.federate(b)
        until(lambda: is_answered(port))


async def ended(reader: asyncio.StreamReader) -> bool:
    """Wait for the end of what comes."""
    try:
        return await reader.read() == b""
    except (PeerError, OSError):
        return True


async def refused(source: X509ContextSource, port: int, authorizer: Authorizer) -> bool:
    """Whether the peer at this port accepts no connection. In TLS 1.3 its refusal may come after our handshake."""
    try:
        reader, writer = await dial("127.0.0.1", port, source, authorizer)
    except (PeerError, OSError):
        return True
    try:
        writer.write(b"hello\n")
        return await ended(reader)
    except (PeerError, OSError):
        return True
    finally:
        writer.close()


@asynccontextmanager
async def library(a: Domain, b: Domain) -> AsyncIterator[tuple[X509Source, X509Source, Listener]]:
    """The sources of ``WEB`` and ``APP``, and a listener of the latter that echoes lines."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(line)
        finally:
            writer.close()

    async with AsyncExitStack() as stack:
        web = await stack.enter_async_context(X509Source(a.workload_api))
        app = await stack.enter_async_context(X509Source(b.workload_api))
        listener = await listen("127.0.0.1", 0, app, authorize_id(WEB), echo)
        yield web, app, await stack.enter_async_context(listener)


async def test_the_library_gets_the_partners_bundle_and_connects_until_the_relation_ends(
    pair: tuple[Domain, Domain],
) -> None:
    a, b = pair
    await asyncio.to_thread(_refederate, a, b)
    async with library(a, b) as (web, app, listener):
        for source, other in ((web, b), (app, a)):
            bundle = source.snapshot().bundles.get(SpiffeId.parse(f"spiffe://{other.name}/x").trust_domain)
            assert bundle is not None
            shown = await asyncio.to_thread(other.json, "bundle", "show")
            assert len(bundle.x509_authorities) == sum(one["use"] == "x509-svid" for one in shown["bundle"]["keys"])
        reader, writer = await dial("127.0.0.1", listener.address[1], web, authorize_id(APP))
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        generation = web.snapshot().generation
        await asyncio.to_thread(a.json, "federation", "delete", "--trust-domain", b.name)
        async with asyncio.timeout(_SECONDS):
            assert await ended(reader)
            while web.snapshot().bundles.get(SpiffeId.parse(APP).trust_domain) is not None:
                generation = (await web.changed(generation)).generation
        writer.close()
        with pytest.raises(NoBundleError, match="no bundle for trust domain b.test"):
            await dial("127.0.0.1", listener.address[1], web, authorize_id(APP))
    await asyncio.to_thread(a.federate, b)


async def test_an_entry_that_does_not_federate_gets_no_bundle_of_the_partner(pair: tuple[Domain, Domain]) -> None:
    a, b = pair
    await asyncio.to_thread(_refederate, a, b)
    [entry] = (await asyncio.to_thread(a.json, "entry", "show", "--spiffe-id", WEB))["entries"]
    changes = (("--clear", "federates-with"), {"a.test"}), (("--federates-with", "b.test"), {"a.test", "b.test"})
    for change, wanted in changes:
        await asyncio.to_thread(a.json, "entry", "update", "--entry-id", entry["id"], *change)
        async with X509Source(a.workload_api) as source, asyncio.timeout(_SECONDS):
            context = source.snapshot()
            while {str(one.trust_domain) for one in context.bundles} != wanted:
                context = await source.changed(context.generation)


async def test_envoy_gets_the_partners_bundle_by_sds(pair: tuple[Domain, Domain], tmp_path: Path) -> None:
    a, b = pair
    await asyncio.to_thread(_refederate, a, b)
    await asyncio.to_thread(b.entry, "/envoy", "--federates-with", "a.test", selector=f"unix:path:{envoy_binary()}")

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    envoy_id = "spiffe://b.test/envoy"
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    doors = [
        Door("theirs", port, "in", (WEB,), certificate=envoy_id, trust="spiffe://a.test"),
        Door("ours", port, "in", (WEB,), certificate=envoy_id, trust="ROOTCA"),
    ]
    async with (
        server,
        X509Source(a.workload_api) as web,
        running_envoy(tmp_path, b.workload_socket, doors) as envoy,
    ):
        reader, writer = await dial("127.0.0.1", await envoy.port("theirs"), web, authorize_id(envoy_id))
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        writer.close()
        assert await refused(web, await envoy.port("ours"), authorize_id(envoy_id))


async def test_a_partners_authority_can_not_mint_our_ids(pair: tuple[Domain, Domain]) -> None:
    a, _ = pair
    async with partner("c.test") as c:
        await asyncio.to_thread(a.federate_with, "c.test", c.url, str(c.endpoint_id), c.document().decode())
        await asyncio.to_thread(a.entry, "/shop", "--federates-with", "c.test")

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()

        async with X509Source(a.workload_api) as source:
            listener = await listen("127.0.0.1", 0, source, authorize_any(), echo)
            async with listener, asyncio.timeout(_SECONDS):
                for spiffe_id, accepted in (("spiffe://c.test/customer", True), (WEB, False)):
                    svid = mint_raw(c.authority, Leaf(uris=(spiffe_id,)))
                    theirs = ConstantSource(X509Context(1, (svid,), source.snapshot().bundles))
                    if accepted:
                        reader, writer = await dial("127.0.0.1", listener.address[1], theirs, authorize_any())
                        writer.write(b"hello\n")
                        assert await reader.readline() == b"hello\n"
                        writer.close()
                    else:
                        assert await refused(theirs, listener.address[1], authorize_any())
        await asyncio.to_thread(a.json, "federation", "delete", "--trust-domain", "c.test")
