"""A CA for the processes of one machine, over a Unix socket. Interim: the Workload API is to replace this pair.

Who a caller is, the kernel says (SO_PEERCRED): its uid picks its SPIFFE ID, and nothing that it writes can change that.
So the socket may be open to all; in which directory it stands is the operator's choice. Linux only.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from meshtls.agent.attest.process import credentials_of
from meshtls.agent.ca_messages import MAX_LINE, Reply, Request, decode, encode, reply_of
from meshtls.agent.issuer import LocalIssuer
from meshtls.agent.unix_socket import abandon, bound
from meshtls.bundle import TrustBundle
from meshtls.ca.authority import Authority
from meshtls.errors import LocalIdentityError, MeshtlsError, RequestError
from meshtls.spiffeid import SpiffeId
from meshtls.workload.background import in_background

__all__ = ["serve_ca"]

# More callers than this wait in the kernel's queue.
_MOST_CALLERS = 128

log = logging.getLogger("meshtls.agent")


@asynccontextmanager
async def serve_ca(
    authority: Authority,
    socket_path: Path,
    identities: Mapping[int, SpiffeId],
    *,
    ttl: timedelta | None = None,
    federated: Iterable[TrustBundle] = (),
    timeout: float = 10.0,
) -> AsyncIterator[None]:
    """Answer on ``socket_path`` while the body runs; the socket accepts connections when the body starts.

    ``identities`` maps uids to SPIFFE IDs and may be changed by the caller meanwhile. ``ttl`` is the authority's unless
    given, ``timeout`` in seconds bounds one request. Raises ConfigError where the socket can't be made.
    """
    service = _Service(authority, identities, ttl, tuple(federated), timeout)
    with bound(socket_path) as listener:
        async with in_background(service.serve(listener), "CA service"):
            yield


@dataclass(frozen=True, slots=True)
class _Service:
    authority: Authority
    identities: Mapping[int, SpiffeId]
    ttl: timedelta | None
    federated: tuple[TrustBundle, ...]
    timeout: float

    async def serve(self, listener: socket.socket) -> None:
        room = asyncio.Semaphore(_MOST_CALLERS)
        async with asyncio.TaskGroup() as answers:
            while True:
                await room.acquire()
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                answers.create_task(self._answer(connection)).add_done_callback(lambda _: room.release())

    async def _answer(self, connection: socket.socket) -> None:
        uid = credentials_of(connection).uid
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=MAX_LINE)
        # With no buffer of our own, drained means that the kernel has it all, and the end may be abrupt.
        writer.transport.set_write_buffer_limits(0)
        try:
            async with asyncio.timeout(self.timeout):
                if reply := await self._reply(uid, reader):
                    writer.write(encode(reply))
                    await writer.drain()
        except TimeoutError:
            log.warning("CA service: uid %d was slower than %g s", uid, self.timeout)
        except OSError as error:
            log.warning("CA service: uid %d broke off: %s", uid, error)
        finally:
            await abandon(writer)

    async def _reply(self, uid: int, reader: asyncio.StreamReader) -> Reply | None:
        try:
            line = await _line(reader)
            if not line:
                return None  # a probe, which only wants to see that somebody listens
            csr = decode(line, Request).csr.encode()
            spiffe_id = self._identity(uid)
            issuer = LocalIssuer(self.authority, spiffe_id, ttl=self.ttl, federated=self.federated)
            issued = await issuer.issue(csr)
        except MeshtlsError as error:
            log.warning("CA service: refused uid %d: %s", uid, error)
            return Reply(error=str(error))
        log.info("CA service: issued %s to uid %d", spiffe_id, uid)
        return reply_of(issued)

    def _identity(self, uid: int) -> SpiffeId:
        if uid not in self.identities:
            raise LocalIdentityError(f"uid {uid} has no identity here; give it one in the CA service's list of uids")
        return self.identities[uid]


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError as error:
        raise RequestError(f"wanted a request of at most {MAX_LINE} bytes on one line") from error
