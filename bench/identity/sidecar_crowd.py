"""Sidecars in a process of their own, each with its own stream of the agent's Workload API, before one echoing app.

``python -m bench.identity.sidecar_crowd SOCKET COUNT``. Prints the ports of their listeners, and runs until its
standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack

from bench.identity.figures import UnmeasuredError
from bench.identity.site import OTHER, SERVED, STOLEN
from meshtls.address import Address
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.settings import InboundConfig, Limits, Mode, SidecarConfig
from meshtls.svid.x509 import X509Svid
from meshtls.workload.x509_source import X509Source

_ANYWHERE = Address("127.0.0.1", 0)
_LIMITS = Limits(handshake_timeout=60, connect_timeout=60)


async def _serve(address: str, count: int) -> None:
    app = await asyncio.start_server(_echo, "127.0.0.1", 0, backlog=1024)
    inbound = InboundConfig(
        listen=_ANYWHERE, app=Address(*app.sockets[0].getsockname()[:2]), mode=Mode.STRICT, allow=(STOLEN, OTHER)
    )
    async with app, AsyncExitStack() as stack:
        sidecars = []
        for number in range(count):
            source = await stack.enter_async_context(X509Source(address, picker=_served))
            config = SidecarConfig(name=f"s{number}", spiffe_id=SERVED, inbound=(inbound,), limits=_LIMITS)
            sidecars.append(await stack.enter_async_context(Sidecar(config, source, on_result=lambda result: None)))
        print(json.dumps([sidecar.inbound[0].address.port for sidecar in sidecars]), flush=True)
        await asyncio.to_thread(sys.stdin.read)


def _served(svids: tuple[X509Svid, ...]) -> X509Svid:
    return next(one for one in svids if one.spiffe_id == SERVED)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 10):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise UnmeasuredError(f"wanted SOCKET COUNT, got {sys.argv[1:]}")
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
