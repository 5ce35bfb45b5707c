"""OpenSSL's own command line as the peer: nothing of ours on the other end of the wire."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshtls.address import Address
from meshtls.ca.authority import Authority
from meshtls.sidecar.settings import OutboundConfig, SidecarConfig, TlsMinimum
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import ConstantSource
from tests.integration.sidecar.mesh import (
    ANYWHERE,
    DEFAULTS,
    OTHER,
    OURS,
    A,
    B,
    Node,
    an_app,
    as_a,
    connected,
    echoed,
    running,
    side_a,
    side_b,
)
from tests.support.authority import make_authority, svid_for
from tests.support.require import require
from tests.support.waiting import SECONDS

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


async def test_s_client_without_a_certificate_reads_certificate_required(tmp_path: Path) -> None:
    roots = written(tmp_path, A)[-2:]
    async with an_app() as app, side_b(app.address) as b:
        async with client(b.inbound, *roots) as process:
            assert b"alert certificate required" in await until(process, b"alert")
        line = await b.lines.next()
    assert (line["outcome"], line["source_id"]) == ("NO_CLIENT_CERTIFICATE", None)
    assert app.connections == 0


async def test_s_client_with_an_unlisted_id_reads_an_alert(tmp_path: Path) -> None:
    async with an_app() as app, side_b(app.address) as b:
        async with client(b.inbound, *written(tmp_path, OTHER)) as process:
            assert b"alert unknown ca" in await until(process, b"alert")
        assert await b.lines.outcome() == "POLICY_DENIED"
    assert app.connections == 0


async def test_s_client_with_a_foreign_certificate_reads_an_alert(tmp_path: Path) -> None:
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


# -- what TLS does by itself, as -msg shows it --


def talkative_client(to: Address, *options: str) -> contextlib.AbstractAsyncContextManager[Process]:
    """Shows each message and takes commands: a line K asks for new keys, a line R for a renegotiation."""
    return openssl("s_client", "-connect", str(to), "-msg", "-verify_return_error", *options)


async def test_a_key_update_that_s_client_asks_for_is_answered_before_the_next_bytes(tmp_path: Path) -> None:
    async with an_app() as app, side_b(app.address) as b, talkative_client(b.inbound, *written(tmp_path, A)) as process:
        say(process, b"ping\n")
        await until(process, b"ping")
        for text in (b"pong", b"pang"):
            say(process, b"K\n")
            await until(process, b">>> TLS 1.3, Handshake [length 0005], KeyUpdate")
            say(process, text + b"\n")
            assert b"<<< TLS 1.3, Handshake [length 0005], KeyUpdate" in await until(process, text)
        say(process, b"Q\n")
        line = await b.lines.next()
    assert (line["outcome"], line["bytes_in"], line["bytes_out"]) == ("OK", 15, 15)


@pytest.mark.parametrize(
    ("tls_min", "option"), [(TlsMinimum.V1_3, "-tls1_3"), (TlsMinimum.V1_2, "-tls1_2")], ids=["TLS 1.3", "TLS 1.2"]
)
@pytest.mark.parametrize(("resumption", "tickets"), [(False, 0), (True, 1)])
async def test_s_client_gets_one_ticket_where_sessions_are_resumed(
    tmp_path: Path, tls_min: TlsMinimum, option: str, resumption: bool, tickets: int
) -> None:
    async with (
        an_app() as app,
        side_b(app.address, tls_min=tls_min, resumption=resumption) as b,
        talkative_client(b.inbound, option, *written(tmp_path, A)) as process,
    ):
        say(process, b"ping\n")
        printed = await until(process, b"ping")
    assert printed.count(b", NewSessionTicket") == tickets


async def test_s_client_is_refused_renegotiation_at_once(tmp_path: Path) -> None:
    async with an_app() as app, side_b(app.address, tls_min=TlsMinimum.V1_2) as b:
        async with talkative_client(b.inbound, "-tls1_2", *written(tmp_path, A)) as process:
            say(process, b"ping\n")
            await until(process, b"ping")
            say(process, b"R\n")
            printed = await until(process, b"<<< TLS 1.2, Alert")
            assert printed.splitlines()[-1] == b"<<< TLS 1.2, Alert [length 0002], warning no_renegotiation"
        assert await b.lines.outcome() == "RESET"


def side_a_with_tls12(to: Address) -> contextlib.AbstractAsyncContextManager[Node]:
    door = OutboundConfig(listen=ANYWHERE, to=to, peer=B, tls_min=TlsMinimum.V1_2)
    return running(SidecarConfig(name="a", spiffe_id=A, outbound=(door,), limits=DEFAULTS), ConstantSource(as_a()))


async def test_an_outbound_refuses_s_server_renegotiation(tmp_path: Path) -> None:
    arguments = ("-accept", "127.0.0.1:0", "-tls1_2", "-msg", "-Verify", "3", "-verify_return_error")
    async with openssl("s_server", *arguments, *written(tmp_path, B)) as process:
        accept = (await until(process, b"ACCEPT")).splitlines()[-1].decode()
        async with side_a_with_tls12(Address.parse(accept.removeprefix("ACCEPT "))) as a:
            async with connected(a.outbound) as (reader, writer), asyncio.timeout(SECONDS):
                writer.write(b"ping\n")
                await until(process, b"ping")
                say(process, b"pong\n")
                assert await reader.readline() == b"pong\n"
                say(process, b"r\n")
                await until(process, b", HelloRequest")
                printed = await until(process, b"no_renegotiation")
                assert printed.splitlines()[-1] == b"<<< TLS 1.2, Alert [length 0002], warning no_renegotiation"
            assert await a.lines.outcome() == "RESET"
