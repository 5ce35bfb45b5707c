"""A serving side that policies govern, and what calls it: curl and httpx through a sidecar, as an app would."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec

from meshtls.address import Address
from meshtls.admin.keys import AdminKeys
from meshtls.ext_authz.settings import ExtAuthzProvider
from meshtls.observe.access_log import AccessLog
from meshtls.policy.istio.model import MeshSettings, Workload
from meshtls.policy.istio.parse import parse_documents
from meshtls.sidecar.policies import PolicySet
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.settings import InboundConfig, Limits, Mode, Protocol, SidecarConfig
from meshtls.sidecar.tracing.keys import TracingKeys
from meshtls.svid.context import ConstantSource
from tests.integration.sidecar.mesh import ANYWHERE, DEFAULTS, B, Lines, Node, as_b

__all__ = ["Web", "a_web_app", "governed", "policies", "with_policies"]

MESH = MeshSettings(trust_domain="example.org")
WORKLOAD = Workload(namespace="default", labels=(("app", "b"),), service_account="service-b")


def policies(text: str) -> PolicySet:
    """Of documents in YAML."""
    return PolicySet(documents=parse_documents([("p.yaml", text)]), mesh=MESH, workload=WORKLOAD)


def with_policies(config: SidecarConfig, text: str) -> SidecarConfig:
    return msgspec.structs.replace(config, policies=policies(text))


@contextlib.asynccontextmanager
async def governed(
    app: Address,
    text: str,
    *,
    mode: Mode = Mode.STRICT,
    protocol: Protocol = Protocol.TCP,
    limits: Limits = DEFAULTS,
    ext_authz: tuple[ExtAuthzProvider, ...] = (),
    tracing: TracingKeys | None = None,
    admin: AdminKeys | None = None,
    **keys: Any,
) -> AsyncIterator[Node]:
    """B, with these policies. Its ``allow`` is none of them unless it is given."""
    keys.setdefault("allow_given", "allow" in keys)
    inbound = InboundConfig(listen=ANYWHERE, app=app, mode=mode, protocol=protocol, **keys)
    config = SidecarConfig(
        name="b",
        spiffe_id=B,
        inbound=(inbound,),
        limits=limits,
        health=ANYWHERE,
        policies=policies(text),
        ext_authz=ext_authz,
        tracing=tracing,
        admin=admin,
    )
    lines = Lines()
    log = AccessLog(lines)
    async with Sidecar(config, ConstantSource(as_b()), on_result=log, on_request=log.request) as sidecar:
        yield Node(sidecar, lines)


@dataclass
class Web:
    """An app that answers each HTTP/1.1 request with what it got, as JSON. ``seen`` are the requests' first lines."""

    address: Address
    seen: list[str]
    connections: int = 0


@contextlib.asynccontextmanager
async def a_web_app() -> AsyncIterator[Web]:
    """Strictly one request after the other, as far as its tests need: bodies with a length."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        web.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *fields = head.rstrip().split("\r\n")
                web.seen.append(first)
                headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                told = json.dumps({"first": first, "headers": headers, "body": body.decode()}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(told), told))
                await writer.drain()
        writer.close()

    web = Web(ANYWHERE, [])
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        web.address = Address(*server.sockets[0].getsockname()[:2])
        yield web
