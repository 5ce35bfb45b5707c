"""How a verb asks the server: over its admin socket, or over mutual TLS as an identity whose entry is marked admin."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click
from grpclib.client import Channel
from grpclib.exceptions import GRPCError

from meshtls.cli.options import ADDRESS, SPIFFE_ID, output_option, workload_option
from meshtls.cli.workload_socket import workload_address
from meshtls.errors import LocalIdentityError
from meshtls.serverapi.admin import AdminClient
from meshtls.serverapi.channels import local_channel, mutual_channel
from meshtls.sidecar.address import Address
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import ConstantSource, X509Context, X509ContextSource
from meshtls.workload.x509_source import X509Source

__all__ = ["ServerAccess", "gathered", "server_options"]

T = TypeVar("T")
_SOCKET_VARIABLE = "MESHTLS_ADMIN_SOCKET"


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """``server`` is asked over mutual TLS where it is given, else ``socket``; ``of_file`` says that a configuration
    file named it, and no option. ``identity`` is who asks over mutual TLS: the Workload API's default unless given.
    """

    socket: Path
    server: Address | None = None
    workload_socket: str | None = None
    identity: SpiffeId | None = None
    of_file: bool = False

    def ask(self, question: Callable[[AdminClient], Awaitable[T]]) -> T:
        """The answer. Raises what the client raises; that nobody answers, with where that was and what to do."""
        return asyncio.run(self._ask(question))

    def __str__(self) -> str:
        return f"server {self.server}" if self.server else f"admin socket {self.socket}"

    @property
    def _advice(self) -> str:
        if self.of_file:
            return ""
        if self.server:
            # A refusal at the end of TLS 1.3's handshake looks like a connection that broke.
            return (
                "; start the server there, and ask as an identity whose entry is marked admin: it lets in no other;"
                " of several identities, --as says which"
            )
        return f"; start the server there, or say with --socket or {_SOCKET_VARIABLE} where it is"

    async def _ask(self, question: Callable[[AdminClient], Awaitable[T]]) -> T:
        async with self._channel() as channel:
            try:
                return await question(AdminClient(channel))
            except LocalIdentityError as error:
                if isinstance(error.__cause__, GRPCError):
                    raise
                raise LocalIdentityError(f"{self}: {error}{self._advice}") from error

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[Channel]:
        if self.server is None:
            async with local_channel(self.socket) as channel:
                yield channel
            return
        async with X509Source(workload_address(self.workload_socket)) as source:
            asking: X509ContextSource = source
            if self.identity:
                # One verb is over long before its SVID is.
                asking = ConstantSource(_led_by(source.snapshot(), self.identity))
            domain = asking.snapshot().svid.spiffe_id.trust_domain
            async with mutual_channel(self.server.host, self.server.port, asking, domain) as channel:
                yield channel


def _led_by(context: X509Context, spiffe_id: SpiffeId) -> X509Context:
    """With the SVID of this identity first. Raises LocalIdentityError where there is none."""
    mine = tuple(svid for svid in context.svids if svid.spiffe_id == spiffe_id)
    if not mine:
        given = ", ".join(str(svid.spiffe_id) for svid in context.svids)
        raise LocalIdentityError(
            f"--as: wanted an SVID of {spiffe_id}, the Workload API gives this process {given};"
            " name one of these, or make an entry for it"
        )
    return replace(context, svids=mine + tuple(svid for svid in context.svids if svid not in mine))


def server_options(command: Callable[..., T]) -> Callable[..., T]:
    """The options of every verb that asks the server; it is given ``access`` and ``out``."""

    @click.option(
        "--socket",
        type=click.Path(path_type=Path),
        envvar=_SOCKET_VARIABLE,
        show_envvar=True,
        default="meshtls-data/admin.sock",
        show_default=True,
        help="The server's admin socket.",
    )
    @click.option("--server", type=ADDRESS, help="Ask there over mutual TLS, as an identity whose entry says --admin.")
    @click.option("--as", "identity", type=SPIFFE_ID, help="With --server: as this one of our identities.")
    @workload_option
    @output_option
    @functools.wraps(command)
    def call(
        socket: Path, server: Address | None, identity: SpiffeId | None, workload_socket: str | None, **rest: Any
    ) -> T:
        if identity is not None and server is None:
            raise click.UsageError("wanted --as together with --server: on the admin socket it is the user who counts")
        return command(access=ServerAccess(socket, server, workload_socket, identity), **rest)

    return call


async def gathered(items: AsyncIterable[T]) -> list[T]:
    """All of them."""
    return [item async for item in items]
