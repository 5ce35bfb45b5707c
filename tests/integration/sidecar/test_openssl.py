"""OpenSSL's own command line as the peer: nothing of ours on the other end of the wire."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshtls.ca.authority import Authority
from meshtls.sidecar.address import Address
from meshtls.spiffeid import SpiffeId
from tests.integration.sidecar.mesh import OTHER, OURS, SECONDS, A, B, an_app, connected, echoed, side_a, side_b
from tests.support.authority import make_authority, svid_for
from tests.support.require import require

FOREIGN = make_authority(str(OURS.trust_domain))

pytestmark = pytest.mark.usefixtures("_openssl")


@pytest.fixture
def _openssl() -> None:
    require("openssl", shutil.which("openssl") is not None, "the openssl command is not installed")


def written(directory: Path, spiffe_id: SpiffeId, authority: Authority = OURS) -> list[str]:
    """An SVID as files, and the options that name them; it trusts OURS whoever signed it."""
    svid = svid_for(authority, spiffe_id)
    leaf, *signers = svid.chain_pem().split(b"-----END CERTIFICATE-----\n")[:-1]
    end = b"-----END CERTIFICATE-----\n"
    contents = {
        "-cert": leaf + end,
        "-cert_chain": b"".join(signer + end for signer in signers),
        "-key": svid.key_pem(),
        "-CAfile": OURS.bundle.to_pem(),
    }
    options = []
    for option, content in contents.items():
        path = directory / f"{option[1:]}.pem"
        path.touch(mode=0o600)
        path.write_bytes(content)
        options += [option, str(path)]
    return options


@contextlib.asynccontextmanager
async def openssl(*arguments: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec("openssl", *arguments, stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def client(to: Address, *options: str) -> contextlib.AbstractAsyncContextManager[Process]:
    return openssl("s_client", "-connect", str(to), "-quiet", "-no_ign_eof", "-verify_return_error", *options)


async def until(process: Process, wanted: bytes) -> bytes:
    """What the process printed, up to the line that holds ``wanted`` or its end."""
    assert process.stdout is not None
    printed = b""
    async with asyncio.timeout(SECONDS):
        while line := await process.stdout.readline():
            printed += line
            if wanted in line:
                break
    return printed


def say(process: Process, text: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(text)


async def test_s_client_with_an_svid_gets_its_echo(tmp_path: Path) -> None:
    async with an_app() as app, side_b(app.address) as b:
        async with client(b.inbound, *written(tmp_path, A)) as process:
            say(process, b"ping\n")
            assert b"ping\n" in await until(process, b"ping")
        line = await b.lines.next()
    assert (line["source_id"], line["bytes_in"], line["bytes_out"]) == (str(A), 5, 5)


async def test_s_client_without_a_certificate_is_told_that_it_needs_one(tmp_path: Path) -> None:
    roots = written(tmp_path, A)[-2:]
    async with an_app() as app, side_b(app.address) as b:
        async with client(b.inbound, *roots) as process:
            assert b"alert certificate required" in await until(process, b"alert")
        line = await b.lines.next()
    assert (line["outcome"], line["source_id"]) == ("NO_CLIENT_CERTIFICATE", None)
    assert app.connections == 0


async def test_s_client_with_an_id_that_is_not_listed_is_told_so_by_an_alert(tmp_path: Path) -> None:
    async with an_app() as app, side_b(app.address) as b:
        async with client(b.inbound, *written(tmp_path, OTHER)) as process:
            assert b"alert unknown ca" in await until(process, b"alert")
        assert await b.lines.outcome() == "POLICY_DENIED"
    assert app.connections == 0


async def test_s_client_with_a_foreign_ca_s_certificate_is_told_so_by_an_alert(tmp_path: Path) -> None:
    async with an_app() as app, side_b(app.address) as b:
        async with client(b.inbound, *written(tmp_path, A, FOREIGN)) as process:
            assert b"alert unknown ca" in await until(process, b"alert")
        assert await b.lines.outcome() == "PEER_UNTRUSTED"
    assert app.connections == 0


@contextlib.asynccontextmanager
async def server(
    directory: Path, spiffe_id: SpiffeId, authority: Authority = OURS
) -> AsyncIterator[tuple[Address, Process]]:
    """An s_server that sends each line back reversed."""
    arguments = ("-accept", "127.0.0.1:0", "-rev", "-Verify", "3", "-verify_return_error")
    async with openssl("s_server", *arguments, *written(directory, spiffe_id, authority)) as process:
        accept = (await until(process, b"ACCEPT")).splitlines()[-1]
        yield Address.parse(accept.decode().removeprefix("ACCEPT ")), process


async def test_an_outbound_reaches_s_server_that_has_the_wanted_id(tmp_path: Path) -> None:
    async with server(tmp_path, B) as (address, _), side_a(address) as a:
        async with connected(a.outbound) as streams:
            assert await echoed(streams, b"ping\n") == b"gnip\n"
        line = await a.lines.next()
    assert (line["destination_id"], line["bytes_in"], line["bytes_out"]) == (str(B), 5, 5)


@pytest.mark.parametrize(
    ("spiffe_id", "authority", "outcome"),
    [(OTHER, OURS, "POLICY_DENIED"), (B, FOREIGN, "PEER_UNTRUSTED")],
    ids=["another ID", "a foreign CA"],
)
async def test_an_outbound_refuses_s_server_and_tells_it_by_an_alert(
    tmp_path: Path, spiffe_id: SpiffeId, authority: Authority, outcome: str
) -> None:
    async with server(tmp_path, spiffe_id, authority) as (address, process), side_a(address) as a:
        async with connected(a.outbound) as streams:
            with pytest.raises(ConnectionResetError):
                await echoed(streams, b"ping\n")
        line = await a.lines.next()
        assert b"alert unknown ca" in await until(process, b"alert")
    assert line["outcome"] == outcome
