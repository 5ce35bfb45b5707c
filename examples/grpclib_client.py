"""grpclib as a client: the context goes to the channel.

python examples/grpclib_client.py 127.0.0.1:8443 spiffe://example.org/server
"""

from __future__ import annotations

import asyncio
import ssl
import sys

from google.protobuf.wrappers_pb2 import StringValue
from grpclib.client import Channel, UnaryUnaryMethod

import meshtls

GREET = "/demo.Greeter/Greet"


async def fetch(context: ssl.SSLContext, address: str) -> str:
    host, _, port = address.rpartition(":")
    async with Channel(host, int(port), ssl=context) as channel:
        greet = UnaryUnaryMethod(channel, GREET, StringValue, StringValue)
        reply: StringValue = await greet(StringValue())
        return reply.value


async def main(address: str, server: str) -> None:
    async with meshtls.X509Source() as source:
        options = meshtls.TlsOptions(alpn=("h2",))
        context = meshtls.client_context(source, meshtls.authorize_id(server), options=options)
        print(await fetch(context, address))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
