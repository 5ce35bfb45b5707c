"""grpc.aio as a server, with what its credentials support.

python examples/grpc_aio_server.py 127.0.0.1:8443 spiffe://example.org/client

grpcio brings a TLS of its own and takes PEM bytes, no SSLContext. What that means here:

- Rotation works: ``dynamic_ssl_server_credentials`` asks for the newest certificate and roots at each handshake.
- It verifies a client against a flat list of roots, without SPIFFE's rules. So it gets only the roots of our own trust
  domain: a partner's CA beside ours could sign our IDs. Clients of other trust domains are refused.
- It calls no authorizer within the handshake. The interceptor verifies and authorizes every call before the handler
  runs; until then a client that is not allowed is connected.
- The private key is copied into grpcio's own memory.

If that is too little, use grpclib (see ``grpclib_server.py``) or a sidecar.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.wrappers_pb2 import StringValue

import meshtls
from meshtls.clock import SystemClock
from meshtls.policy.authorizer import Target


def own_roots(context: meshtls.X509Context) -> bytes:
    """Our roots as PEM. Raises LocalIdentityError if there are none: grpcio would then trust other roots."""
    bundle = context.bundles.get(context.svid.spiffe_id.trust_domain)
    if bundle is None or not bundle.x509_authorities:
        raise meshtls.LocalIdentityError(f"{context.svid.spiffe_id}: wanted a bundle of its own trust domain, got none")
    return bundle.to_pem()


def credentials(source: meshtls.X509ContextSource) -> grpc.ServerCredentials:
    """Raises LocalIdentityError if there is no SVID at the start.

    If there is none later, grpcio continues with the last one, and ``Authorize`` refuses all calls.
    """

    def newest() -> grpc.ServerCertificateConfiguration:
        context = source.snapshot()
        pair = (context.svid.key_pem(), context.svid.chain_pem())
        return grpc.ssl_server_certificate_configuration([pair], own_roots(context))

    return grpc.dynamic_ssl_server_credentials(newest(), newest, require_client_authentication=True)


def caller(source: meshtls.X509ContextSource, call: grpc.aio.ServicerContext[Any, Any]) -> meshtls.VerifiedPeer:
    """The caller, verified by all rules of SPIFFE. Raises PeerError."""
    shown = call.auth_context()
    pem = b"".join(b"".join(shown.get(name, ())) for name in ("x509_pem_cert", "x509_pem_cert_chain"))
    chain = [one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(pem)] if pem else []
    return meshtls.verify_peer(list(dict.fromkeys(chain)), source.snapshot().bundles, SystemClock().now())


class Authorize(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs only
    """Refuses the calls of peers that ``authorizer`` does not allow. Streaming methods are not served here."""

    def __init__(self, source: meshtls.X509ContextSource, authorizer: meshtls.Authorizer) -> None:
        self._source = source
        self._authorizer = authorizer

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        handler = await continuation(handler_call_details)
        behaviour = handler.unary_unary
        if behaviour is None:
            raise NotImplementedError("wanted a unary-unary method")

        async def authorized(request: Any, call: Any) -> Any:
            await self._check(call)
            return await behaviour(request, call)

        return grpc.unary_unary_rpc_method_handler(
            authorized, handler.request_deserializer, handler.response_serializer
        )

    async def _check(self, call: grpc.aio.ServicerContext[Any, Any]) -> None:
        try:
            decision = self._authorizer(caller(self._source, call), Target(self._source.snapshot().svid.spiffe_id))
        except meshtls.LocalIdentityError:
            await call.abort(grpc.StatusCode.UNAVAILABLE, "this server has no valid identity now")
        except meshtls.PeerError as error:
            await call.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        if not decision:
            await call.abort(grpc.StatusCode.PERMISSION_DENIED, decision.reason)


def greeter(source: meshtls.X509ContextSource) -> grpc.GenericRpcHandler[Any, Any]:
    """The service, written out by hand; yours comes from a .proto file."""

    async def greet(request: StringValue, call: grpc.aio.ServicerContext[Any, Any]) -> StringValue:
        peer = caller(source, call)
        return StringValue(value=f"hello {peer.spiffe_id}, certificate {peer.serial}")

    method = grpc.unary_unary_rpc_method_handler(greet, StringValue.FromString, StringValue.SerializeToString)
    return grpc.method_handlers_generic_handler("demo.Greeter", {"Greet": method})


@asynccontextmanager
async def serving(
    source: meshtls.X509ContextSource, authorizer: meshtls.Authorizer, host: str, port: int
) -> AsyncIterator[int]:
    """Serve while the body runs; gives the port, which is a free one for 0."""
    server = grpc.aio.server(interceptors=[Authorize(source, authorizer)])
    server.add_generic_rpc_handlers((greeter(source),))
    taken = server.add_secure_port(f"{host}:{port}", credentials(source))
    await server.start()
    try:
        yield taken
    finally:
        await server.stop(None)


async def main(listen: str, *allowed: str) -> None:
    host, _, port = listen.rpartition(":")
    async with (
        meshtls.X509Source() as source,
        serving(source, meshtls.authorize_one_of(*allowed), host, int(port)) as taken,
    ):
        print(f"listening on {host}:{taken}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
