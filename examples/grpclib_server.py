"""grpclib as a server: gRPC over mutual TLS, the caller's ID from its certificate.

python examples/grpclib_server.py 127.0.0.1:8443 spiffe://example.org/client

The service is written out by hand, on a message type that protobuf brings; yours comes from a .proto file.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.wrappers_pb2 import StringValue
from grpclib.const import Cardinality, Handler
from grpclib.server import Server, Stream

import meshtls

GREET = "/demo.Greeter/Greet"


def greeting(certificate: Mapping[str, Any]) -> str:
    """grpclib shows a peer's certificate only; the context has verified that its one URI name is the SPIFFE ID."""
    (spiffe_id,) = (value for kind, value in certificate["subjectAltName"] if kind == "URI")
    return f"hello {spiffe_id}, certificate {certificate['serialNumber'].lower()}"


class Greeter:
    async def greet(self, stream: Stream[StringValue, StringValue]) -> None:
        await stream.recv_message()
        await stream.send_message(StringValue(value=greeting(stream.peer.cert() or {})))

    def __mapping__(self) -> Mapping[str, Handler]:
        return {GREET: Handler(self.greet, Cardinality.UNARY_UNARY, StringValue, StringValue)}


@asynccontextmanager
async def serving(context: ssl.SSLContext, host: str, port: int) -> AsyncIterator[int]:
    """Serve while the body runs; gives the port, which is a free one for 0."""
    with socket.create_server((host, port)) as listener:
        async with Server([Greeter()]) as server:
            await server.start(sock=listener, ssl=context)
            yield listener.getsockname()[1]


async def main(listen: str, *allowed: str) -> None:
    host, _, port = listen.rpartition(":")
    async with meshtls.X509Source() as source:
        options = meshtls.TlsOptions(alpn=("h2",))
        context = meshtls.server_context(source, meshtls.authorize_one_of(*allowed), options=options)
        async with serving(context, host, int(port)) as taken:
            print(f"listening on {host}:{taken}", flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
