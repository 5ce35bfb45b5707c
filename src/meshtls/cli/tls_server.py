"""``meshtls tls-server``: a mutual TLS server with the live SVID of the Workload API."""

from __future__ import annotations

import asyncio
import logging

import click

from meshtls.cli.handshaken import connection_record, connection_text
from meshtls.cli.options import ADDRESS, SPIFFE_ID, log_to_stderr, output_option, workload_option
from meshtls.cli.output import Output
from meshtls.cli.records import moment, x509_record
from meshtls.cli.repeated import RepeatedOptions
from meshtls.cli.signals import stop_signal
from meshtls.cli.workload_socket import workload_address
from meshtls.errors import ConfigError
from meshtls.logs import logger
from meshtls.policy.authorizer import authorize_one_of
from meshtls.sidecar.address import Address
from meshtls.spiffeid import SpiffeId
from meshtls.tls.streams import Listener, listen
from meshtls.workload.background import in_background
from meshtls.workload.x509_source import X509Source

__all__ = ["tls_server"]

log = logger("meshtls.tls")


@click.command(cls=RepeatedOptions)
@click.option("--listen", "where", type=ADDRESS, default="localhost:7443", show_default=True, help="Where to serve.")
@click.option("--allow", type=SPIFFE_ID, multiple=True, required=True, metavar="ID...", help="The clients to serve.")
@workload_option
@output_option
def tls_server(out: Output, workload_socket: str | None, where: Address, allow: tuple[SpiffeId, ...]) -> None:
    """Say hello to the clients that are allowed, and who each was, until SIGTERM or SIGINT.

    Each handshake uses the newest SVID; a refused client is logged on standard error.
    """
    log_to_stderr(logging.WARNING)
    asyncio.run(_run(_Hello(X509Source(workload_address(workload_socket)), out), where, allow))


class _Hello:
    def __init__(self, source: X509Source, out: Output) -> None:
        self.source = source
        self._out = out

    async def greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The handler of one connection."""
        own: SpiffeId = writer.get_extra_info("svid").spiffe_id
        record = connection_record(writer)
        self._out.event({"event": "connection", **record}, connection_text(record))
        try:
            writer.write(f"hello from {own.segments[-1] if own.segments else own}\n".encode())
            await writer.drain()
        except OSError as error:
            log.warning("%s went before it was answered: %s", record["peer_id"], error)

    async def tell_rotations(self) -> None:
        """Say each new SVID."""
        generation = self.source.snapshot().generation
        while True:
            context = await self.source.changed(generation)
            generation, svid = context.generation, context.svid
            text = f"rotated {svid.spiffe_id}: serial {svid.serial} until {moment(svid.not_after)}"
            self._out.event({"event": "rotated", **x509_record(svid)}, text)

    def tell_serving(self, listener: Listener) -> None:
        svid, address = self.source.snapshot().svid, str(Address(*listener.address))
        text = f"serving on {address} as {svid.spiffe_id}, serial {svid.serial}"
        self._out.event({"event": "serving", "address": address, **x509_record(svid)}, text)


async def _run(hello: _Hello, where: Address, allow: tuple[SpiffeId, ...]) -> None:
    with stop_signal() as stopped:
        async with in_background(_serve(hello, where, allow), "serve"):
            await stopped.wait()


async def _serve(hello: _Hello, where: Address, allow: tuple[SpiffeId, ...]) -> None:
    async with hello.source as source:
        try:
            listener = await listen(where.host, where.port, source, authorize_one_of(*allow), hello.greet)
        except OSError as error:
            raise ConfigError(f"{where}: could not listen there: {error.strerror or error}") from error
        async with listener:
            hello.tell_serving(listener)
            await hello.tell_rotations()
