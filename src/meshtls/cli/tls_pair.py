"""``meshtls tls-server`` and ``tls-client``: a mutual TLS pair with the live SVIDs of the Workload API."""

from __future__ import annotations

import asyncio
import logging

import click

from meshtls.address import Address, os_reason
from meshtls.cli.options import (
    ADDRESS,
    SPIFFE_ID,
    RepeatedOptions,
    log_to_stderr,
    output_option,
    workload_address,
    workload_option,
)
from meshtls.cli.output import Output, Record
from meshtls.cli.records import moment, x509_record
from meshtls.cli.serving import run_until_stopped
from meshtls.errors import ConfigError, HandshakeError, HandshakeTimeoutError, LocalIdentityError
from meshtls.logs import logger
from meshtls.policy.authorizer import authorize_id, authorize_one_of
from meshtls.port_holder import bind_reason
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer
from meshtls.svid.x509 import X509Svid
from meshtls.tls.streams import dial, listen
from meshtls.workload.x509_source import X509Source

__all__ = ["tls_client", "tls_server"]

log = logger("meshtls.tls")
#: Seconds that the client waits for its SVID, and for the answer.
_SECONDS = 10.0


@click.command(cls=RepeatedOptions)
@click.option("--listen", "where", type=ADDRESS, default="localhost:7443", show_default=True, help="Where to listen.")
@click.option("--allow", type=SPIFFE_ID, multiple=True, required=True, metavar="ID...", help="The clients to allow.")
@workload_option
@output_option
def tls_server(out: Output, workload_socket: str | None, where: Address, allow: tuple[SpiffeId, ...]) -> None:
    """Greet the clients that are allowed, and print the identity of each, until SIGTERM or SIGINT.

    Each handshake uses the newest SVID. A refused client is logged on standard error.
    """
    log_to_stderr(logging.WARNING)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own: SpiffeId = writer.get_extra_info("svid").spiffe_id
        record = _connection_record(writer)
        out.event({"event": "connection", **record}, _connection_text(record))
        try:
            writer.write(f"hello from {own.segments[-1] if own.segments else own}\n".encode())
            await writer.drain()
        except OSError as error:
            log.warning("%s disconnected before it was answered: %s", record["peer_id"], error)

    async def serve() -> None:
        async with X509Source(workload_address(workload_socket)) as source:
            try:
                listener = await listen(where.host, where.port, source, authorize_one_of(*allow), greet)
            except OSError as error:
                why = bind_reason(error, where.host, where.port)
                raise ConfigError(f"wanted to listen on {where}: {why}") from error
            async with listener:
                context = source.snapshot()
                svid, address = context.svid, str(Address(*listener.address))
                text = f"serving on {address} as {svid.spiffe_id}, serial {svid.serial}"
                out.event({"event": "serving", "address": address, **x509_record(svid)}, text)
                while True:
                    context = await source.changed(context.generation)
                    svid = context.svid
                    text = f"rotated {svid.spiffe_id}: serial {svid.serial} until {moment(svid.not_after)}"
                    out.event({"event": "rotated", **x509_record(svid)}, text)

    asyncio.run(run_until_stopped(serve(), "serve"))


@click.command()
@click.option("--connect", "where", type=ADDRESS, default="localhost:7443", show_default=True, help="The server.")
@click.option("--expect", type=SPIFFE_ID, required=True, metavar="ID", help="The identity that the server must have.")
@workload_option
@output_option
def tls_client(out: Output, workload_socket: str | None, where: Address, expect: SpiffeId) -> None:
    """Connect once, and print the server's identity and its answer. Exit code 1: one side refused the other."""
    record, answer = asyncio.run(_call(workload_socket, where, expect))
    out.record({**record, "response": answer}, f"{_connection_text(record)}\n{answer}")


async def _call(socket: str | None, where: Address, expect: SpiffeId) -> tuple[Record, str]:
    async with X509Source(workload_address(socket), timeout=_SECONDS) as source:
        try:
            reader, writer = await dial(where.host, where.port, source, authorize_id(expect))
        except OSError as error:
            raise LocalIdentityError(f"{where}: can't be reached: {os_reason(error)}") from error
        try:
            # Only an answer shows that the server has accepted the client, too.
            async with asyncio.timeout(_SECONDS):
                answer = await reader.readuntil(b"\n")
            return _connection_record(writer), answer.decode("utf-8", "replace").strip()
        except TimeoutError as error:
            raise HandshakeTimeoutError(f"{where}: no answer within {_SECONDS:g} s") from error
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise HandshakeError(f"{where}: wanted a line as answer: {error}") from error
        finally:
            writer.close()


def _connection_record(writer: asyncio.StreamWriter) -> Record:
    """The peer, and the certificates that this connection uses."""
    peer: VerifiedPeer = writer.get_extra_info("peer")
    own: X509Svid = writer.get_extra_info("svid")
    return {
        "peer_id": str(peer.spiffe_id),
        "peer_serial": peer.serial,
        "own_id": str(own.spiffe_id),
        "own_serial": own.serial,
        "tls_version": writer.get_extra_info("ssl_object").version(),
    }


def _connection_text(record: Record) -> str:
    return (
        f"peer {record['peer_id']}, serial {record['peer_serial']},"
        f" over {record['tls_version']} with our serial {record['own_serial']}"
    )
