"""grpc.aio as a client, with what its credentials support, which is less than a server's do.

python examples/grpc_aio_client.py 127.0.0.1:8443 server.example.org

grpcio brings a TLS of its own and takes PEM bytes, no SSLContext. What that means here:

- It can't check the server's SPIFFE ID, and does not expose it. It checks a DNS name of the certificate, so the
  server's entry needs one (``dns_names``), and the CA must give that name to no other entry. Only the roots of our own
  trust domain are trusted.
- A channel keeps the certificate that it was made with, also when it connects again: make a new channel for each
  generation (``await source.changed()``), as here for each call.
- The private key is copied into grpcio's own memory.

If that is too little, use grpclib (see ``grpclib_client.py``) or a sidecar.
"""

from __future__ import annotations

import asyncio
import sys

import grpc
from google.protobuf.wrappers_pb2 import StringValue

import meshtls


def own_roots(context: meshtls.X509Context) -> bytes:
    """Our roots as PEM. Raises LocalIdentityError if there are none: grpcio would then trust the Web's."""
    bundle = context.bundles.get(context.svid.spiffe_id.trust_domain)
    if bundle is None or not bundle.x509_authorities:
        raise meshtls.LocalIdentityError(f"{context.svid.spiffe_id}: wanted a bundle of its own trust domain, got none")
    return bundle.to_pem()


def credentials(context: meshtls.X509Context) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(own_roots(context), context.svid.key_pem(), context.svid.chain_pem())


async def fetch(source: meshtls.X509ContextSource, address: str, dns_name: str) -> str:
    options = [("grpc.ssl_target_name_override", dns_name)]
    async with grpc.aio.secure_channel(address, credentials(source.snapshot()), options) as channel:
        greet = channel.unary_unary("/demo.Greeter/Greet", StringValue.SerializeToString, StringValue.FromString)
        reply: StringValue = await greet(StringValue())
        return reply.value


async def main(address: str, dns_name: str) -> None:
    async with meshtls.X509Source() as source:
        print(await fetch(source, address, dns_name))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
