"""Connects a verb to the server: over its admin socket, or over mutual TLS as an identity with an admin entry."""

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

from meshtls.address import Address
from meshtls.admin.asking import is_admin_interface
from meshtls.cli.options import ADDRESS, SPIFFE_ID, output_option, workload_address, workload_option
from meshtls.errors import LocalIdentityError
from meshtls.serverapi.admin import AdminClient
from meshtls.serverapi.channels import local_channel, mutual_channel
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import ConstantSource, X509Context, X509ContextSource
from meshtls.workload.x509_source import X509Source

__all__ = ["IS_ADMIN_INTERFACE", "ServerAccess", "gathered", "server_options"]

T = TypeVar("T")
#: Said of a socket where an admin interface answers in place of the server's API.
IS_ADMIN_INTERFACE = (
    "this is the admin interface (admin.socket); --socket wants the server's socket_path, by default"
    " meshtls-data/admin.sock"
)
_SOCKET_VARIABLE = "MESHTLS_ADMIN_SOCKET"


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """Where the server is.

    - ``socket``: its admin socket, used unless ``server`` is set.
    - ``server``: its address, for mutual TLS as ``identity`` (default: the Workload API's default identity).
    - ``of_file``: the socket comes from a configuration file, not from an option.
    """

    socket: Path
    server: Address | None = None
    workload_socket: str | None = None
    identity: SpiffeId | None = None
    of_file: bool = False

    def ask(self, question: Callable[[AdminClient], Awaitable[T]]) -> T:
        """Call the server. Raises what the client raises; an unanswered call, with the server's address and advice."""
        return asyncio.run(self._ask(question))

    def __str__(self) -> str:
        return f"server {self.server}" if self.server else f"admin socket {self.socket}"

    @property
    def _advice(self) -> str:
        if self.of_file:
            return ""
        if self.server:
            # A refusal at the end of a TLS 1.3 handshake looks like a broken connection.
            return (
                "; is the server running, and is the entry of this identity marked admin?"
                " If there are several identities, select one with --as"
            )
        return f"; is the server running? Give its socket with --socket or {_SOCKET_VARIABLE}"

    async def _ask(self, question: Callable[[AdminClient], Awaitable[T]]) -> T:
        async with self._channel() as channel:
            try:
                return await question(AdminClient(channel))
            except LocalIdentityError as error:
                if isinstance(error.__cause__, GRPCError):
                    raise
                if self.server is None and await is_admin_interface(self.socket):
                    raise LocalIdentityError(f"{self.socket}: {IS_ADMIN_INTERFACE}") from error
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
                # A verb ends long before its SVID expires.
                asking = ConstantSource(_with_first(source.snapshot(), self.identity))
            domain = asking.snapshot().svid.spiffe_id.trust_domain
            async with mutual_channel(self.server.host, self.server.port, asking, domain) as channel:
                yield channel


def _with_first(context: X509Context, spiffe_id: SpiffeId) -> X509Context:
    """The context with the SVID of this identity first. Raises LocalIdentityError if there is none."""
    mine = tuple(svid for svid in context.svids if svid.spiffe_id == spiffe_id)
    if not mine:
        given = ", ".join(str(svid.spiffe_id) for svid in context.svids)
        raise LocalIdentityError(
            f"--as: wanted an SVID of {spiffe_id}, the Workload API gives this process {given};"
            " name one of these, or create an entry for it"
        )
    return replace(context, svids=mine + tuple(svid for svid in context.svids if svid not in mine))


def server_options(command: Callable[..., T]) -> Callable[..., T]:
    """The options of every verb that calls the server; it is passed ``access`` and ``out``."""

    @click.option(
        "--socket",
        type=click.Path(path_type=Path),
        envvar=_SOCKET_VARIABLE,
        show_envvar=True,
        default="meshtls-data/admin.sock",
        show_default=True,
        help="The server's admin socket.",
    )
    @click.option(
        "--server",
        type=ADDRESS,
        help="Connect to this address over mutual TLS, as an identity whose entry is marked --admin.",
    )
    @click.option("--as", "identity", type=SPIFFE_ID, help="With --server: the identity to connect as.")
    @workload_option
    @output_option
    @functools.wraps(command)
    def call(
        socket: Path, server: Address | None, identity: SpiffeId | None, workload_socket: str | None, **rest: Any
    ) -> T:
        if identity is not None and server is None:
            raise click.UsageError(
                "wanted --as together with --server: the admin socket identifies callers by their user"
            )
        return command(access=ServerAccess(socket, server, workload_socket, identity), **rest)

    return call


async def gathered(items: AsyncIterable[T]) -> list[T]:
    """All items as a list."""
    return [item async for item in items]
