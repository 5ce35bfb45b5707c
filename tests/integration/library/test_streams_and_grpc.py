"""asyncio streams and grpclib: rotation on both sides, and a refused peer on both."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from grpclib.exceptions import StreamTerminatedError

from examples import asyncio_client, asyncio_server, grpclib_client, grpclib_server
from meshtls import (
    LocalIdentityError,
    TlsOptions,
    X509Context,
    authorize_any,
    authorize_id,
    client_context,
    server_context,
)
from meshtls.pytest.mesh import Mesh
from meshtls.tls.rotating import RotatingContext
from tests.integration.library.seen import noting
from tests.integration.library.served import Serving, served


@dataclass(frozen=True)
class Pair:
    """Two example programs that speak one protocol."""

    serving: Serving
    fetch: Callable[[RotatingContext, str], Awaitable[str]]
    options: TlsOptions


PAIRS = {
    "asyncio": Pair(asyncio_server.serving, asyncio_client.fetch, TlsOptions()),
    "grpclib": Pair(grpclib_server.serving, grpclib_client.fetch, TlsOptions(alpn=("h2",))),
}
every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)


@every_pair
async def test_each_new_connection_uses_the_newest_svids(mesh: Mesh, pair: Pair) -> None:
    client, server, seen = mesh.source("client"), mesh.source("server"), list[str]()
    asking = client_context(client, noting(authorize_id(mesh.id("server")), seen), options=pair.options)
    answering = server_context(server, authorize_id(mesh.id("client")), options=pair.options)
    async with served(pair.serving, answering) as address:
        for _ in range(2):
            answer = await pair.fetch(asking, address)
            assert answer == f"hello spiffe://example.org/client, certificate {client.serial}"
            assert seen[-1] == server.serial
            client.rotate()
            server.rotate()


@every_pair
async def test_a_server_refuses_a_client_of_another_id(
    mesh: Mesh, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    asking = client_context(mesh.source("stranger"), authorize_id(mesh.id("server")), options=pair.options)
    answering = server_context(mesh.source("server"), authorize_id(mesh.id("client")), options=pair.options)
    caplog.set_level("INFO", "meshtls.tls")
    async with served(pair.serving, answering) as address:
        with pytest.raises((ssl.SSLError, ConnectionError, StreamTerminatedError)):
            await pair.fetch(asking, address)
    assert [record.message for record in caplog.records if record.name == "meshtls.tls"] == [
        "refused: peer spiffe://example.org/stranger is not allowed to reach spiffe://example.org/server;"
        " allowed: spiffe://example.org/client"
    ]


@every_pair
async def test_a_client_refuses_a_server_of_a_foreign_ca(mesh: Mesh, pair: Pair) -> None:
    asking = client_context(mesh.source("client"), authorize_id(mesh.id("server")), options=pair.options)
    answering = server_context(mesh.foreign("server"), authorize_id(mesh.id("client")), options=pair.options)
    async with served(pair.serving, answering) as address:
        with pytest.raises(ssl.SSLCertVerificationError, match="no path to a root of the bundle"):
            await pair.fetch(asking, address)


class Ended:
    """A source whose last SVID has expired without a newer one."""

    def snapshot(self) -> X509Context:
        raise LocalIdentityError("our SVID has expired")


@every_pair
async def test_a_client_whose_own_svid_has_ended_says_so(mesh: Mesh, pair: Pair) -> None:
    asking = client_context(Ended(), authorize_any(), options=pair.options)
    answering = server_context(mesh.source("server"), authorize_any(), options=pair.options)
    async with served(pair.serving, answering) as address:
        with pytest.raises(LocalIdentityError, match="our SVID has expired"):
            await pair.fetch(asking, address)


@every_pair
async def test_a_server_whose_own_svid_has_ended_takes_no_connection_and_logs_why(
    mesh: Mesh, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    asking = client_context(mesh.source("client"), authorize_any(), options=pair.options)
    async with served(pair.serving, server_context(Ended(), authorize_any(), options=pair.options)) as address:
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await pair.fetch(asking, address)
    assert "no connection can be accepted: our SVID has expired" in [record.message for record in caplog.records]
