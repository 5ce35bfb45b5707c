"""What two networks say to each other, for captures at both ends of the link between them.

``python -m tests.integration.capture.network_talks DIRECTORY LINK SEED`` runs in ``IN_NAMESPACES``. It leaves in the
directory ``client.pcap`` and ``server.pcap``, the secrets in ``keys.log``, and ``said.json``: what the programs sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from meshtls.wire.side import Side
from tests.integration.capture.network_programs import Curl, envoy, nginx, sidecar
from tests.integration.sidecar.mesh import A, B, as_a, as_b
from tests.support.agent import short_directory
from tests.support.lossy_link import FAULTY
from tests.support.tls_wire import files_of
from tests.support.two_networks import ADDRESSES, TwoNetworks, two_networks
from tests.support.waiting import SECONDS
from tests.support.workload_api import workload_api

__all__ = ["PORTS", "RUN_SECONDS", "Said"]

#: How long a run may take, on a busy machine.
RUN_SECONDS = 500

#: Of each kind of talk, where it can be seen on the link; the networks are their own.
PORTS = {
    "sidecars": 15006,
    "tunnel": 15008,
    "nginx, TLS 1.3": 8443,
    "nginx, TLS 1.2": 8442,
    "Envoy, HTTP/2": 9443,
    "plaintext": 8080,
}
_OUTBOUND, _TUNNEL = 15001, 15002
_DIRECT, _STREAMS = 4, 5
_SIZES = (60_000, 40_000)
_BODY, _UPLOAD = 120_000, 60_000


class Said(NamedTuple):
    """What one connection, or one stream of a tunnel, carried for the application, as the programs at its ends know
    it; of HTTP the bodies alone.
    """

    talk: str
    client: bytes
    server: bytes


def _bytes(seed: object, size: int) -> bytes:
    return random.Random(str(seed)).randbytes(size)  # noqa: S311


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An app that reads to the end, and answers by what the first bytes name."""
    with contextlib.suppress(ConnectionError):
        got = await reader.read()
        writer.write(_bytes(f"answer {got[:16].hex()}", _SIZES[1]))
        writer.write_eof()
        await writer.drain()
    writer.close()


async def _asked(networks: TwoNetworks, port: int, talk: str, number: int) -> Said:
    """One call of an app through its sidecar's listener."""
    question = _bytes(f"{talk} {number}", _SIZES[0])
    async with asyncio.timeout(4 * SECONDS):
        sock = networks.socket(Side.CLIENT)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.write(question)
        await writer.drain()
        writer.write_eof()
        answer = await reader.read()
        writer.close()
    assert answer == _bytes(f"answer {question[:16].hex()}", _SIZES[1]), (talk, number, len(answer))
    return Said(talk, question, answer)


@contextlib.asynccontextmanager
async def _sidecars(networks: TwoNetworks, directory: Path) -> AsyncIterator[None]:
    """``a`` calls from the client's network to ``b`` in the server's: directly, and through a tunnel."""
    there = ADDRESSES[Side.SERVER]
    app = await asyncio.start_server(_answer, "127.0.0.1", 0)
    port = app.sockets[0].getsockname()[1]
    limits = "limits: {handshake_timeout: 60s, connect_timeout: 60s}\n"
    keys = f"insecure_keylog_file: {directory / 'sidecars.log'}\n"
    (directory / "a.yaml").write_text(
        f"name: a\nspiffe_id: {A}\n{limits}{keys}outbound:\n"
        f'  - {{listen: "127.0.0.1:{_OUTBOUND}", to: "{there}:{PORTS["sidecars"]}", peer: "{B}"}}\n'
        f'  - {{listen: "127.0.0.1:{_TUNNEL}", to: "{there}:{PORTS["tunnel"]}", peer: "{B}", tunnel: true}}\n'
    )
    (directory / "b.yaml").write_text(
        f"name: b\nspiffe_id: {B}\n{limits}inbound:\n"
        f'  - {{listen: "{there}:{PORTS["sidecars"]}", app: "127.0.0.1:{port}", allow: ["{A}"]}}\n'
        f'  - {{listen: "{there}:{PORTS["tunnel"]}", app: "127.0.0.1:{port}", allow: ["{A}"], tunnel: true}}\n'
    )
    with short_directory() as sockets:
        async with (
            app,
            workload_api(sockets / "a", as_a()) as api_a,
            workload_api(sockets / "b", as_b()) as api_b,
            sidecar(networks, Side.SERVER, directory / "b.yaml", api_b.address),
            sidecar(networks, Side.CLIENT, directory / "a.yaml", api_a.address),
        ):
            yield


async def _through_sidecars(networks: TwoNetworks) -> list[Said]:
    calls = [_asked(networks, _OUTBOUND, "sidecars", number) for number in range(_DIRECT)]
    calls += [_asked(networks, _TUNNEL, "tunnel", number) for number in range(_STREAMS)]
    return await asyncio.gather(*calls)


async def _with_curl(networks: TwoNetworks, directory: Path) -> list[Said]:
    """An upload and a download with each server, one after the other on one connection."""
    ours = files_of(directory, "client")
    curl = Curl(networks, ours.ca, ours, directory / "curl.log")
    upload = directory / "upload"
    upload.write_bytes(_bytes("upload", _UPLOAD))
    body = _bytes("body", _BODY)

    async def one(talk: str, version: int, *options: str) -> Said:
        port, down = PORTS[talk], directory / f"down.{PORTS[talk]}"
        scheme = "http" if talk == "plaintext" else "https"
        second = f"{scheme}://web.test:{port}/body"
        first = ("-T", str(upload), "-o", "/dev/null", *options)
        again = ("--next", *curl.always, *options, "-o", str(down), second)
        done = await curl.run(port, f"/put/{port}", *first, *again, version=version, scheme=scheme)
        assert done.code == 0, (talk, done.out)
        assert down.read_bytes() == body
        assert (directory / "site" / "put" / str(port)).read_bytes() == upload.read_bytes()
        return Said(talk, upload.read_bytes(), body)

    all_of_them = await asyncio.gather(
        one("nginx, TLS 1.3", 4, "--tlsv1.3"),
        one("nginx, TLS 1.2", 6, "--tls-max", "1.2"),
        one("Envoy, HTTP/2", 4, "--http2"),
        one("plaintext", 4),
    )
    return list(all_of_them)


async def talked(directory: Path, link: str, seed: int) -> None:
    """All talks at the same time; the files are complete afterwards."""
    web = files_of(directory, "web")
    (directory / "site").mkdir()
    (directory / "site" / "body").write_bytes(_bytes("body", _BODY))
    required = "ssl_verify_client on;"
    servers = {
        PORTS["nginx, TLS 1.3"]: f"{required} ssl_protocols TLSv1.3;",
        PORTS["nginx, TLS 1.2"]: f"{required} ssl_protocols TLSv1.2;",
        PORTS["plaintext"]: None,
    }
    files = {side: directory / f"{side.value}.pcap" for side in Side}
    async with (
        two_networks(FAULTY if link == "lossy" else None, seed) as networks,
        nginx(directory, web, servers),
        envoy(directory, web, PORTS["Envoy, HTTP/2"], PORTS["plaintext"]),
        # They outlive the capture: a tunnel that ends with its sidecars may be reset by either.
        _sidecars(networks, directory),
        networks.captured(files),
    ):
        many = await asyncio.gather(_through_sidecars(networks), _with_curl(networks, directory))
        said = [one for some in many for one in some]
    secrets = b"".join((directory / name).read_bytes() for name in ("sidecars.log", "curl.log"))
    (directory / "keys.log").write_bytes(secrets)
    tally = networks.link.tally.rows() if networks.link is not None else []
    rows = [{"talk": one.talk, "client": one.client.hex(), "server": one.server.hex()} for one in said]
    (directory / "said.json").write_text(json.dumps({"said": rows, "mark": networks.mark.hex(), "tally": tally}))


async def _main() -> None:
    # Before whoever waits for this process gives up: what it has started has to end with it.
    async with asyncio.timeout(RUN_SECONDS - 60):
        await talked(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))


if __name__ == "__main__":
    asyncio.run(_main())
