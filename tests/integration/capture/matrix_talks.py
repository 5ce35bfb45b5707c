"""Handshakes of every kind between other people's programs and sidecars, captured by tcpdump and by ``capture record``.

``python -m tests.integration.capture.matrix_talks DIRECTORY`` runs in ``IN_NAMESPACES``. It leaves in the directory
``server.pcap`` of tcpdump, ``recorded.pcapng`` with the secrets inside, ``keys.log``, and ``live.ndjson``: what
``capture live`` printed meanwhile, with the name of a sidecar alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from meshtls.cli.admin.sockets import VARIABLE
from meshtls.wire.side import Side
from tests.integration.capture.network_programs import Curl, envoy, nginx, program, ran, sidecar
from tests.integration.sidecar.mesh import OTHER, A, B, as_a, as_b
from tests.support.agent import short_directory
from tests.support.certs import ca, key, leaf
from tests.support.tls_wire import END, START, Files, files_of, written
from tests.support.two_networks import ADDRESSES, TwoNetworks, two_networks
from tests.support.waiting import SECONDS
from tests.support.workload_api import workload_api

__all__ = ["CASES", "FIRST_PORT", "PLAIN", "RUN_SECONDS", "SIDECAR", "Case"]

RUN_SECONDS = 500
_THERE = ADDRESSES[Side.SERVER]
_REQUEST = b"GET /body HTTP/1.0\r\n\r\n"
#: Where each server listens.
NGINX_3, NGINX_2, RETRYING, EXPIRED, PLAIN = 8443, 8442, 8444, 8445, 8080
OPENSSL_3, OPENSSL_2, ENVOY = 7443, 7442, 9443
SIDECAR, DENYING, TUNNEL = 15006, 15007, 15008
_OUT = {SIDECAR: 15101, DENYING: 15102, TUNNEL: 15103}


class Case(NamedTuple):
    """One connection: the server's port, and how the client calls. ``certificate``: "" for none."""

    name: str
    port: int
    by: str = "openssl"
    certificate: str = "client"
    options: tuple[str, ...] = ()
    trusts: str = "web"


#: In their order; the number of a case is that of its client's port.
CASES = (
    Case("TLS 1.3 with nginx", NGINX_3, options=("-sess_out", "{directory}/session-3")),
    Case("TLS 1.3 resumed with nginx", NGINX_3, options=("-sess_in", "{directory}/session-3")),
    Case("TLS 1.2 with nginx", NGINX_2, options=("-sess_out", "{directory}/session-2")),
    Case("TLS 1.2 resumed with nginx", NGINX_2, options=("-sess_in", "{directory}/session-2")),
    Case("HelloRetryRequest of nginx", RETRYING),
    Case("curl with nginx", NGINX_3, "curl"),
    Case("an expired certificate of nginx", EXPIRED, "curl"),
    Case("a CA that curl does not trust", NGINX_3, "curl", trusts="foreign"),
    Case("plaintext on nginx's port of TLS", NGINX_3, "plaintext"),
    Case("TLS on nginx's port of plaintext", PLAIN, "curl"),
    Case("TLS 1.3 with OpenSSL", OPENSSL_3),
    Case("TLS 1.2 with OpenSSL", OPENSSL_2),
    Case("no certificate for OpenSSL, TLS 1.3", OPENSSL_3, certificate=""),
    Case("no certificate for OpenSSL, TLS 1.2", OPENSSL_2, certificate=""),
    Case("a certificate of another CA for OpenSSL", OPENSSL_3, certificate="foreign"),
    Case("an expired certificate for OpenSSL", OPENSSL_3, certificate="expired"),
    Case("HTTP/2 with Envoy", ENVOY, "curl", options=("--http2",)),
    Case("no certificate for Envoy", ENVOY, "curl", certificate=""),
    Case("a certificate of another CA for Envoy", ENVOY, "curl", certificate="foreign"),
    Case("between sidecars", SIDECAR, "sidecar"),
    Case("in a tunnel between sidecars", TUNNEL, "sidecar"),
    Case("denied by a sidecar", DENYING, "sidecar"),
    Case("a certificate of another CA for a sidecar", SIDECAR, "curl", certificate="foreign", options=("-k",)),
    Case("no certificate for a sidecar", SIDECAR, "curl", certificate="", options=("-k",)),
    Case("plaintext on a sidecar's port", SIDECAR, "plaintext"),
)
FIRST_PORT = 41000


def _certificates(directory: Path) -> dict[str, Files]:
    """Leaves by their names: of one CA, of another one, and one that has expired."""
    foreign = ca(slot="foreign", name="foreign", not_before=START, not_after=END)
    past = datetime(2021, 1, 1, tzinfo=UTC)
    mine = ca(not_before=START, not_after=END)
    made = {"web": files_of(directory, "web"), "client": files_of(directory, "client")}
    for name, issuer, end in (("foreign", foreign, END), ("expired", mine, past)):
        issued = leaf(
            issuer,
            f"spiffe://a.test/{name}",
            subject=name,
            dns=("web.test",),
            own_key=key(name),
            not_before=START,
            not_after=end,
        )
        made[name] = written(directory, name, issued, issuer)
    return made


@contextlib.asynccontextmanager
async def _openssl(files: Files, port: int, version: str) -> AsyncIterator[None]:
    """``openssl s_server`` that wants a certificate, and answers each request with a page."""
    verify = ("-CAfile", str(files.ca), "-Verify", "1", "-verify_return_error", "-www", version)
    own = ("-cert", str(files.chain), "-key", str(files.key))
    async with program(b"ACCEPT", "openssl", "s_server", "-accept", f"{_THERE}:{port}", *own, *verify):
        yield


@contextlib.asynccontextmanager
async def _sidecars(networks: TwoNetworks, directory: Path) -> AsyncIterator[Path]:
    """``a`` calls from the client's network to ``b`` in the server's; the admin socket of ``b``."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            await writer.drain()
        writer.close()

    app = await asyncio.start_server(answer, "127.0.0.1", 0)
    at = f"127.0.0.1:{app.sockets[0].getsockname()[1]}"
    limits = "limits: {handshake_timeout: 60s, connect_timeout: 60s}\n"
    allowed = {SIDECAR: A, DENYING: OTHER, TUNNEL: A}
    tunnels = {port: ", tunnel: true" if port == TUNNEL else "" for port in allowed}
    (directory / "a.yaml").write_text(
        f"name: a\nspiffe_id: {A}\n{limits}outbound:\n"
        + "".join(
            f'  - {{listen: "127.0.0.1:{_OUT[port]}", to: "{_THERE}:{port}", peer: "{B}"{tunnels[port]}}}\n'
            for port in allowed
        )
    )
    with short_directory() as sockets:
        (directory / "b.yaml").write_text(
            f"name: b\nspiffe_id: {B}\n{limits}insecure_keylog_file: {directory / 'keys.log'}\n"
            f"admin: {{socket: {sockets / 'admin'}}}\ninbound:\n"
            + "".join(
                f'  - {{listen: "{_THERE}:{port}", app: "{at}", allow: ["{caller}"]{tunnels[port]}}}\n'
                for port, caller in allowed.items()
            )
        )
        async with (
            app,
            workload_api(sockets / "a", as_a()) as api_a,
            workload_api(sockets / "b", as_b()) as api_b,
            sidecar(networks, Side.SERVER, directory / "b.yaml", api_b.address),
            sidecar(networks, Side.CLIENT, directory / "a.yaml", api_a.address),
        ):
            yield sockets / "admin"


async def _called(networks: TwoNetworks, directory: Path, case: Case, number: int, files: dict[str, Files]) -> None:
    """One case; whether it succeeds is for the captures to tell."""
    own = files[case.certificate] if case.certificate else None
    local, options = FIRST_PORT + number, [one.format(directory=directory) for one in case.options]
    if case.by == "sidecar":
        sock = networks.socket(Side.CLIENT)
        async with asyncio.timeout(4 * SECONDS):
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", _OUT[case.port]))
            reader, writer = await asyncio.open_connection(sock=sock)
            with contextlib.suppress(ConnectionError):
                writer.write(b"GET /paid?token=secret HTTP/1.1\r\nHost: b.test\r\n\r\n")
                await reader.read()
            writer.close()
    elif case.by == "openssl":
        cert = ("-cert", str(own.chain), "-key", str(own.key)) if own is not None else ()
        ours = ("-bind", f"{ADDRESSES[Side.CLIENT]}:{local}", "-keylogfile", str(directory / "keys.log"))
        to = ("-connect", f"{_THERE}:{case.port}", "-servername", "web.test", "-CAfile", str(files[case.trusts].ca))
        command = networks.command(Side.CLIENT, "openssl", "s_client", "-ign_eof", *to, *ours, *cert, *options)
        await ran(*command, given=_REQUEST)
    else:
        curl = Curl(networks, files[case.trusts].ca, own, directory / "keys.log")
        scheme = "http" if case.by == "plaintext" else "https"
        await curl.run(case.port, "/body", "--local-port", str(local), *options, scheme=scheme)


@contextlib.asynccontextmanager
async def _capturing(directory: Path, *verb: str, admin: Path | None = None) -> AsyncIterator[None]:
    """One of our own verbs captures the link while the body runs; what it prints goes into a file."""
    environment = {**os.environ, **({VARIABLE: str(admin)} if admin is not None else {})}
    command = (sys.executable, "-m", "meshtls", "capture", *verb, "--output", "json")
    process = await asyncio.create_subprocess_exec(*command, "-i", "link0", stdout=PIPE, cwd=directory, env=environment)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(4 * SECONDS):
            first = await process.stdout.readline()
            assert b'"capturing"' in first, first
        yield
        process.terminate()
        async with asyncio.timeout(4 * SECONDS):
            out, _ = await process.communicate()
        (directory / f"{verb[0]}.ndjson").write_bytes(out)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def talked(directory: Path) -> None:
    """All cases, one after the other; the files are complete afterwards."""
    files = _certificates(directory)
    (directory / "site").mkdir()
    (directory / "site" / "body").write_bytes(b"the body\n")
    (directory / "keys.log").touch(0o600)
    expired = f"ssl_certificate {files['expired'].chain}; ssl_certificate_key {files['expired'].key};"
    required = "ssl_verify_client on; ssl_protocols"
    servers = {
        NGINX_3: f"{required} TLSv1.3;",
        NGINX_2: f"{required} TLSv1.2;",
        RETRYING: f"{required} TLSv1.3; ssl_ecdh_curve secp384r1;",
        EXPIRED: f"{required} TLSv1.3; {expired}",
        PLAIN: None,
    }
    async with (
        two_networks(None) as networks,
        nginx(directory, files["web"], servers),
        envoy(directory, files["web"], ENVOY, PLAIN),
        _openssl(files["web"], OPENSSL_3, "-tls1_3"),
        _openssl(files["web"], OPENSSL_2, "-tls1_2"),
        _sidecars(networks, directory) as admin,
        networks.captured({Side.SERVER: directory / "server.pcap"}),
        _capturing(directory, "record", "--write", "recorded.pcapng", "--keylog", "keys.log"),
        _capturing(directory, "live", "--sidecar", "b", "--port", str(SIDECAR), admin=admin),
    ):
        for number, case in enumerate(CASES):
            await _called(networks, directory, case, number, files)
    (directory / "mark").write_bytes(networks.mark)


async def _main() -> None:
    async with asyncio.timeout(RUN_SECONDS - 60):
        await talked(Path(sys.argv[1]))


if __name__ == "__main__":
    asyncio.run(_main())
