"""``meshtls tls-client``: a mutual TLS client with the live SVID of the Workload API."""

from __future__ import annotations

import asyncio

import click

from meshtls.cli.handshaken import connection_record, connection_text
from meshtls.cli.options import ADDRESS, SPIFFE_ID, output_option, workload_option
from meshtls.cli.output import Output, Record
from meshtls.cli.workload_socket import workload_address
from meshtls.errors import HandshakeError, HandshakeTimeoutError, LocalIdentityError
from meshtls.policy.authorizer import authorize_id
from meshtls.sidecar.address import Address
from meshtls.spiffeid import SpiffeId
from meshtls.tls.streams import dial
from meshtls.workload.x509_source import X509Source

__all__ = ["tls_client"]

_SECONDS = 10.0


@click.command()
@click.option("--connect", "where", type=ADDRESS, default="localhost:7443", show_default=True, help="The server.")
@click.option("--expect", type=SPIFFE_ID, required=True, metavar="ID", help="Who the server has to be.")
@workload_option
@output_option
def tls_client(out: Output, workload_socket: str | None, where: Address, expect: SpiffeId) -> None:
    """Connect once, and print who the server is and what it said. Exit code 1: one of the two refused the other."""
    record, answer = asyncio.run(_call(workload_socket, where, expect))
    out.record({**record, "response": answer}, f"{connection_text(record)}\n{answer}")


async def _call(socket: str | None, where: Address, expect: SpiffeId) -> tuple[Record, str]:
    async with X509Source(workload_address(socket), timeout=_SECONDS) as source:
        try:
            reader, writer = await dial(where.host, where.port, source, authorize_id(expect))
        except OSError as error:
            raise LocalIdentityError(f"{where}: nobody answers: {error.strerror or error}") from error
        try:
            # Only an answer says that the server, too, has accepted us.
            async with asyncio.timeout(_SECONDS):
                answer = await reader.readuntil(b"\n")
            return connection_record(writer), answer.decode("utf-8", "replace").strip()
        except TimeoutError as error:
            raise HandshakeTimeoutError(f"{where}: no answer within {_SECONDS:g} s") from error
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise HandshakeError(f"{where}: wanted a line of an answer: {error}") from error
        finally:
            writer.close()
