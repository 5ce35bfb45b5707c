"""A dashboard beside real sidecars, as its users reach it: over TCP, and in Debian's Chromium."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Page, async_playwright, expect

from meshtls.address import Address
from meshtls.admin.asking import Interface
from meshtls.admin.keys import AdminKeys
from meshtls.dashboard.collect import Collector
from meshtls.dashboard.serving import serving_dashboard
from tests.integration.sidecar.mesh import OTHER, OURS, Node, an_app, connected, echoed, rest, side_a, side_b
from tests.support.admin import Got, ask
from tests.support.authority import context_for
from tests.support.require import require
from tests.support.waiting import SECONDS

__all__ = ["Site", "a_page", "a_site", "call", "hostile_process"]


@dataclass(frozen=True)
class Site:
    """A caller ``a``, a stranger ``x`` and a server ``b``, and the dashboard's address."""

    a: Node
    x: Node
    b: Node
    address: Address
    collector: Collector

    async def get(self, path: str, **fields: str) -> Got:
        return await ask(self.address, path, Connection="close", **fields)

    async def view(self, path: str) -> Any:
        got = await self.get(f"/api/{path}")
        assert got.status == 200, got.body
        return got.json

    async def shows(self, path: str, wanted: Callable[[Any], object]) -> Any:
        """The view, as soon as it is as wanted."""
        async with asyncio.timeout(SECONDS):
            while not wanted(found := await self.view(path)):
                await self.collector.changed()
        return found


@asynccontextmanager
async def a_site(
    directory: Path,
    *,
    token: str | None = None,
    more: Sequence[Path] = (),
    server: Path | None = None,
) -> AsyncIterator[Site]:
    keys = {name: AdminKeys(socket=directory / f"{name}.sock") for name in "axb"}
    interfaces = [Interface(directory / f"{name}.sock") for name in "axb"]
    collector = Collector([*interfaces, *map(Interface, more)], server=server, interval=0.1)
    async with (
        an_app() as app,
        side_b(app.address, admin=keys["b"]) as b,
        side_a(b.inbound, admin=keys["a"]) as a,
        side_a(b.inbound, context_for(OURS, OTHER), admin=keys["x"]) as x,
        serving_dashboard(collector, Address("127.0.0.1", 0), token) as address,
    ):
        yield Site(a, x, b, address, collector)


async def call(node: Node) -> dict[str, Any]:
    """One connection through this sidecar, and its line there."""
    async with connected(node.outbound) as streams:
        with contextlib.suppress(ConnectionError):
            await echoed(streams)
            streams[1].write_eof()
            await rest(streams)
    return await node.lines.next()


@asynccontextmanager
async def a_page(site: Site, *, wanted: str = "", **options: Any) -> AsyncIterator[Page]:
    """A tab of Debian's Chromium on the dashboard. What it complains of fails the test, but for ``wanted``, which has
    to come.
    """
    chromium = shutil.which("chromium")
    require("chromium", chromium is not None, "wanted Debian's chromium, apt-get install chromium")
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"], timeout=4 * SECONDS * 1000
        )
        context = await browser.new_context(base_url=f"http://{site.address}", **options)
        page = await context.new_page()
        page.set_default_timeout(SECONDS * 1000)
        expect.set_options(timeout=SECONDS * 1000)  # which has a timeout of its own, of 5 s
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda told: complaints.append(told.text) if told.type in ("error", "warning") else None)
        try:
            await page.goto("/")
            yield page
        finally:
            await browser.close()
    assert [one for one in complaints if not wanted or wanted not in one] == []
    assert not wanted or complaints


@asynccontextmanager
async def hostile_process(socket: Path, text: str) -> AsyncIterator[None]:
    """What looks like a sidecar, and has this text wherever a page has one."""
    line = {
        "connection_id": text,
        "time": "2026-01-01T00:00:00Z",
        "sidecar": text,
        "direction": "inbound",
        "verdict": "denied",
        "outcome": text,
        "reason": text,
        "detail": text,
        "source_id": text,
        "destination_id": text,
        "remote": text,
        "tls_version": text,
        "policy": text,
        "rule": text,
        "clause": text,
        "shadow": [text],
        "security": text,
    }
    request = {
        "event": "request",
        "number": 1,
        "method": text,
        "host": text,
        "path": text,
        "status": 200,
        "total_ms": 1.0,
    }
    certificate = {"subject": text, "issuer": text, "serial": text, "not_after": "2030-01-01T00:00:00Z", "sha256": text}
    svid = {"spiffe_id": text, "hint": text, "serial": text, "chain": [certificate]}
    counts = dict.fromkeys(("connections", "allowed", "denied", "failed", "mutual_tls", "requests"), 1)
    counts |= dict.fromkeys(("failed_requests", "bytes_in", "bytes_out"), 1)
    edge = {**counts, "source_id": text, "destination_id": text, "reporter": "destination", "request_ms": 1.0}
    rule = {"policy": text, "rule": text, "action": text, "provider": text, "dry_run": True, "file": text, "line": 1}
    listener = {"listen": text, "app": text, "mode": text, "allow": [text], "rules": [rule]}
    pages: dict[str, Any] = {
        "/server_info": {"kind": "sidecar", "name": text, "spiffe_id": text, "state": text, "version": text},
        "/ready": {"ready": False, "text": text},
        "/certs": {
            "svids": [{**svid, "not_before": "2026-01-01T00:00:00Z", "not_after": "2030-01-01T00:00:00Z"}],
            "bundles": [{"trust_domain": text, "x509_authorities": [certificate]}],
            "missing": text,
        },
        "/graph": {"edges": [{**edge, "connections_per_second": 1.0, "requests_per_second": 1.0}]},
        "/policies": {
            "generation": 1,
            "not_taken": text,
            "listeners": [listener, {**listener, "allow": None}],
        },
        "/logging": {"level": text},
        "/handshakes": {
            "handshakes": [
                {
                    "connection_id": text,
                    "direction": "inbound",
                    "ended": "2030-01-01T00:00:00Z",
                    "finished": True,
                    "messages": [
                        {"sent": False, "alert": False, "type": 1, "length": 9, "hex": text.encode().hex()},
                        {"sent": True, "alert": False, "type": 11, "length": 9, "hex": ("0b" + text.encode().hex())},
                    ],
                }
            ]
        },
        "/connections": {
            "live": [{**line, "number": 1, "started": "2026-01-01T00:00:00Z", "state": text}],
            "ended": [line],
        },
    }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ")[1].decode().partition("?")[0]
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            if path == "/tap":
                for event in ({"event": "following"}, {**line, **request}):
                    writer.write(json.dumps(event).encode() + b"\n")
                await writer.drain()
                await reader.read()
            else:
                writer.write(json.dumps(pages[path]).encode())
                await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(serve, str(socket)):
        yield
