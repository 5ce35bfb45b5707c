"""The bundle endpoint of a running server: what it answers, to whom, and what one client can make it hold."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from meshtls.address import Address
from meshtls.bundle import TrustBundle
from meshtls.errors import ConfigError
from meshtls.policy.authorizer import authorize_id
from meshtls.rpc.brief_connections import MOST_CONNECTIONS
from meshtls.server.settings import BundleEndpoint
from meshtls.spiffeid import SpiffeId
from meshtls.tls.bootstrap import AnonymousClientContext
from tests.support.server import TD, ServerUnderTest, config_for, started
from tests.support.waiting import SECONDS

HINT = 60
ANY_PORT = Address("127.0.0.1", 0)


@asynccontextmanager
async def serving(directory: Path, *files: Path) -> AsyncIterator[ServerUnderTest]:
    async with started(config_for(directory, bundle_endpoint=BundleEndpoint(ANY_PORT, HINT, *files))) as server:
        yield server


def port_of(server: ServerUnderTest) -> int:
    port = server.running.bundle_port
    assert port is not None
    return port


async def by_svid(server: ServerUnderTest) -> ssl.SSLContext:
    """A client that authenticates the server by its SVID."""
    return AnonymousClientContext.trusting(await server.admin.bundle(), authorize_id(SpiffeId(TD, "/meshtls/server")))


async def ask(server: ServerUnderTest, context: ssl.SSLContext, request: str) -> tuple[str, dict[str, str], bytes]:
    """Status line, fields and content of the answer."""
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port_of(server), ssl=context, server_hostname="127.0.0.1"
        )
        writer.write(f"{request}\r\n\r\n".encode())
        data = await reader.read()
        writer.close()
    head, _, content = data.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    return status, dict(one.split(": ", 1) for one in fields), content


async def test_the_newest_bundle_is_served_with_hint_sequence_and_etag(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        client = await by_svid(server)
        status, fields, content = await ask(server, client, "GET / HTTP/1.1\r\nHost: x")
        own = await server.admin.bundle()
        assert (status, fields["Content-Type"]) == ("HTTP/1.1 200 OK", "application/json")
        served = TrustBundle.from_jwks(TD, content)
        assert served.x509_authorities == own.x509_authorities
        assert dict(served.jwt_authorities) == dict(own.jwt_authorities)
        assert (served.refresh_hint, served.sequence) == (HINT, own.sequence)

        etag = fields["ETag"]
        again = f"GET / HTTP/1.1\r\nIf-None-Match: {etag}"
        for header in (etag, f'"x", {etag}', f"W/{etag}", "*"):
            status, fields, content = await ask(server, client, f"GET / HTTP/1.1\r\nIf-None-Match: {header}")
            assert (status, fields["ETag"], content) == ("HTTP/1.1 304 Not Modified", etag, b"")

        await server.admin.prepare_authority("x509")
        status, fields, content = await ask(server, client, again)
        assert status == "HTTP/1.1 200 OK"
        assert fields["ETag"] != etag
        after = TrustBundle.from_jwks(TD, content)
        assert len(after.x509_authorities) == len(served.x509_authorities) + 1
        assert (after.sequence or 0) > (served.sequence or 0)


@pytest.mark.parametrize(
    ("request_line", "status", "content"),
    [
        ("HEAD / HTTP/1.1", "200 OK", b""),
        ("GET /x HTTP/1.1", "404 Not Found", b"wanted /\n"),
        ("GET // HTTP/1.1", "404 Not Found", b"wanted /\n"),
        ("POST / HTTP/1.1", "405 Method Not Allowed", b"wanted GET\n"),
        ("POST /x HTTP/1.1", "404 Not Found", b"wanted /\n"),
        ("GET / HTTP/2", "400 Bad Request", b"wanted an HTTP/1.1 request\n"),
        ("GET / HTTP/1.1\r\nContent-Length: 1", "413 Content Too Large", b"wanted a body of at most 0 bytes\n"),
    ],
)
async def test_only_the_bundle_itself_can_be_read(
    tmp_path: Path, request_line: str, status: str, content: bytes
) -> None:
    async with serving(tmp_path) as server:
        said, fields, body = await ask(server, await by_svid(server), request_line)
    assert (said, body) == (f"HTTP/1.1 {status}", content)
    assert ("Allow" in fields) == (status[:3] == "405")


async def test_a_flood_of_connections_displaces_itself(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        client = await by_svid(server)
        silent = [await asyncio.open_connection("127.0.0.1", port_of(server)) for _ in range(MOST_CONNECTIONS)]
        assert (await ask(server, client, "GET / HTTP/1.1"))[0] == "HTTP/1.1 200 OK"
        async with asyncio.timeout(SECONDS):
            assert await silent[0][0].read() == b""
        for _, writer in silent:
            writer.close()


async def test_a_client_without_tls_is_closed_and_the_next_one_is_served(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(SECONDS):
            assert b"bundle" not in await reader.read()
        writer.close()
        assert (await ask(server, await by_svid(server), "GET / HTTP/1.1"))[0] == "HTTP/1.1 200 OK"


class TestCertificateFiles:
    async def test_replaced_files_are_used_and_unusable_ones_are_not(self, tmp_path: Path) -> None:
        old, new = trustme.CA(), trustme.CA()
        certificate, key = tmp_path / "web.pem", tmp_path / "web.key"

        def write(authority: trustme.CA) -> None:
            issued = authority.issue_cert("127.0.0.1")
            for path, blob in ((key, issued.private_key_pem), (certificate, issued.cert_chain_pems[0])):
                blob.write_to_path(tmp_path / "new")
                os.replace(tmp_path / "new", path)

        def client(authority: trustme.CA) -> ssl.SSLContext:
            context = ssl.create_default_context()
            authority.configure_trust(context)
            return context

        async def answered(authority: trustme.CA) -> bool:
            try:
                return (await ask(server, client(authority), "GET / HTTP/1.1"))[0] == "HTTP/1.1 200 OK"
            except ssl.SSLCertVerificationError:
                return False

        write(old)
        async with serving(tmp_path, certificate, key) as server:
            status, _, content = await ask(server, client(old), "GET / HTTP/1.1")
            assert (status, bool(json.loads(content)["keys"])) == ("HTTP/1.1 200 OK", True)
            assert not await answered(new)
            write(new)
            async with asyncio.timeout(SECONDS):
                while not await answered(new):  # noqa: ASYNC110  # files are polled
                    await asyncio.sleep(0.2)
            assert not await answered(old)
            certificate.write_text("no certificate")
            await asyncio.sleep(0)
            assert await answered(new)

    @pytest.mark.parametrize("missing", [True, False])
    async def test_files_that_can_not_be_used_are_an_error_of_the_configuration(
        self, tmp_path: Path, missing: bool
    ) -> None:
        certificate, key = tmp_path / "web.pem", tmp_path / "web.key"
        if not missing:
            certificate.write_text("no certificate")
            key.write_text("no key")
        wanted = "wanted a certificate and its key in PEM for the bundle endpoint: "
        with pytest.raises(ConfigError, match=wanted + ("No such file" if missing else ".*PEM")):
            async with serving(tmp_path, certificate, key):
                pass
