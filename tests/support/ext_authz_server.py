"""An authorization service for Envoy's ``ext_authz``, on grpc.aio, from messages of Envoy's own names and numbers.

They are compiled from ``ext_authz_api``, apart from those that meshtls sends, so that the two can differ.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from meshtls.proto.build import compile_protos

__all__ = ["Decide", "authorization_server", "message"]

Message = Any
Decide = Callable[[Message], Awaitable[Message]]


@cache
def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for file in compile_protos(Path(__file__).parent / "ext_authz_api").file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def message(name: str, **fields: Any) -> Message:
    """A message of ``envoy.service.auth.v3``; fields that are messages may be dicts."""
    return GetMessageClass(_pool().FindMessageTypeByName(f"envoy.service.auth.v3.{name}"))(**fields)


@asynccontextmanager
async def authorization_server(decide: Decide, credentials: Any = None, port: int = 0) -> AsyncIterator[int]:
    """Serve Check with ``decide`` on a port of loopback, which is yielded; with TLS if there are credentials."""

    async def check(request: Message, context: Any) -> Message:
        return await decide(request)

    method = grpc.unary_unary_rpc_method_handler(
        check,
        request_deserializer=type(message("CheckRequest")).FromString,
        response_serializer=lambda answer: answer if isinstance(answer, bytes) else answer.SerializeToString(),
    )
    server = grpc.aio.server()
    service = "envoy.service.auth.v3.Authorization"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Check": method}),))
    if credentials is None:
        port = server.add_insecure_port(f"127.0.0.1:{port}")
    else:
        port = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)
