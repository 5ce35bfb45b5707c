"""The app behind the server's sidecar, which sends back what it gets, and the app before the client's, which checks."""

from __future__ import annotations

import asyncio
import secrets

from meshtls.sidecar.address import Address

__all__ = ["comes_back", "echo"]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes until it ends."""
    try:
        while data := await reader.read(1024):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.close()


async def comes_back(listener: Address) -> bool:
    """Whether a random byte that is sent through this listener comes back, and nothing else. Raises OSError."""
    reader, writer = await asyncio.open_connection(listener.host, listener.port)
    sent = secrets.token_bytes(1)
    try:
        writer.write(sent)
        writer.write_eof()
        return await reader.read() == sent
    except ConnectionError:
        return False
    finally:
        writer.transport.abort()
