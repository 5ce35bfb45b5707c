"""A bundle endpoint of another trust domain whose every answer is a test's choice.

async with partner() as b:
    b.answers["/"] = answer(b.document())
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from meshtls.bundle import TrustBundle
from meshtls.ca.authority import Authority
from meshtls.serverapi.federation import Profile, Relation
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.tls.bootstrap import AnonymousClientsServerContext
from tests.support.authority import Swapping, context_for, make_authority

__all__ = ["Partner", "answer", "partner"]

#: Writes an answer, and may do anything else to the connection.
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Partner:
    """``answers`` are by the target of the request, ``requests`` the heads that came."""

    authority: Authority
    source: Swapping
    port: int = 0
    answers: dict[str, bytes | Script] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    @property
    def domain(self) -> TrustDomain:
        return self.authority.trust_domain

    @property
    def endpoint_id(self) -> SpiffeId:
        return SpiffeId(self.domain, "/spire/server")

    @property
    def bundle(self) -> TrustBundle:
        return self.authority.bundle

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/"

    def relation(self, **changed: Any) -> Relation:
        fields: dict[str, Any] = {
            "trust_domain": self.domain,
            "url": self.url,
            "profile": Profile.HTTPS_SPIFFE,
            "endpoint_id": self.endpoint_id,
        }
        return Relation(**(fields | changed))

    def document(self, **members: Any) -> bytes:
        """Its bundle; a member that is None is left out."""
        document = json.loads(self.bundle.to_jwks()) | members
        return json.dumps({name: value for name, value in document.items() if value is not None}).encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            script = self.answers[head.split(" ")[1]]
            if isinstance(script, bytes):
                writer.write(script)
                await writer.drain()
            else:
                await script(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has refused us
        finally:
            writer.close()


def answer(body: bytes, status: str = "200 OK", *fields: str) -> bytes:
    """A whole response."""
    head = "".join(f"{one}\r\n" for one in (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields))
    return head.encode() + b"\r\n" + body


@asynccontextmanager
async def partner(
    trust_domain: str = "b.test", *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Partner]:
    """Serve while the body runs, as its own server's ID unless ``tls`` is another context."""
    authority = make_authority(trust_domain)
    made = Partner(authority, Swapping(context_for(authority, "/spire/server")))
    context = tls or AnonymousClientsServerContext.over(made.source, ("http/1.1",))
    server = await asyncio.start_server(made.serve, host, 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    made.answers["/"] = answer(made.document())
    try:
        yield made
    finally:
        server.close()
