"""The naive proxy: asyncio streams with ``ssl=``, and two tasks that copy. Started as a separate program."""

from __future__ import annotations

import asyncio
import contextlib
import platform
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.peers.base import Program, Setup, Side, Site

__all__ = ["AsyncioStreams"]

_CHUNK = 65536
_BACKLOG = 1024


class AsyncioStreams:
    """The baseline: it resumes no session, and checks the DNS name on the client side only."""

    name = "asyncio"

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return f"Python {platform.python_version()} {' '.join(ssl.OPENSSL_VERSION.split()[:2])}"

    def supports(self, setup: Setup) -> bool:
        return setup is Setup.FULL

    def programs(self, side: Side, setup: Setup, site: Site) -> Sequence[Program]:
        own, other = site.own(side), site.other(side)
        files = [str(path) for path in (own.chain, own.key, site.certs.roots)]
        ports = [str(site.listen(side)), str(site.target(side))]
        return [Program([sys.executable, "-m", "bench.peers.baseline", side.value, *ports, *files, other.dns_name])]


def _context(side: Side, chain: Path, key: Path, roots: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if side is Side.CLIENT else ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(roots)
    context.load_cert_chain(chain, key)
    if side is Side.SERVER:
        context.num_tickets = 0
    return context


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _serve(side: Side, listen: int, target: int, context: ssl.SSLContext, name: str) -> None:
    client = side is Side.CLIENT

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            next_reader, next_writer = await asyncio.open_connection(
                "127.0.0.1", target, ssl=context if client else None, server_hostname=name if client else None
            )
        except OSError:
            writer.close()
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_copy(reader, next_writer))
            tasks.create_task(_copy(next_reader, writer))

    server = await asyncio.start_server(relay, "127.0.0.1", listen, ssl=None if client else context, backlog=_BACKLOG)
    async with server:
        await server.serve_forever()


def main(arguments: Sequence[str]) -> None:
    """SIDE LISTEN TARGET CHAIN KEY ROOTS NAME: serve until killed."""
    side, (listen, target), name = Side(arguments[0]), map(int, arguments[1:3]), arguments[6]
    asyncio.run(_serve(side, listen, target, _context(side, *map(Path, arguments[3:6])), name))


if __name__ == "__main__":
    main(sys.argv[1:])
