"""curl and nghttp through the filter, with hypercorn as the app."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

from meshtls.wire.http import Forward, HttpRequest, Refuse, Ruling
from tests.integration.wire.filtering import Proxy, proxy
from tests.support.ports import free_ports
from tests.support.require import require

LARGE = 2 << 20


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the method, the path and the length of the body; /large with LARGE bytes."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    text = b"x" * LARGE if scope["path"] == "/large" else f"{scope['method']} {scope['path']} {size}\n".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": text})


def ruling(request: HttpRequest) -> Ruling:
    return Refuse(403, "denied by policy\n") if request.path.startswith("/denied") else Forward(request)


@asynccontextmanager
async def meshed() -> AsyncIterator[Proxy]:
    (port,), stop = free_ports(1), asyncio.Event()
    config = Config()
    config.bind, config.errorlog, config.accesslog = [f"127.0.0.1:{port}"], None, None
    app = asyncio.create_task(serve(echo, config, shutdown_trigger=stop.wait))
    try:
        while True:
            try:
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
        async with proxy(port, ruling) as between:
            yield between
    finally:
        stop.set()
        await app


async def run(*command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_curl_gets_and_is_denied() -> None:
    require("curl", shutil.which("curl") is not None, "needs curl")
    async with meshed() as between:
        for path, wanted in (("/a/b?c=d", "GET /a/b 0\n200"), ("/denied/1", "denied by policy\n403")):
            url = f"http://127.0.0.1:{between.port}{path}"
            assert await run("curl", "-sS", "--http2-prior-knowledge", "-w", "%{http_code}", url) == (0, wanted)
        assert [(one.method, one.path) for one in between.requests] == [("GET", "/a/b?c=d"), ("GET", "/denied/1")]


async def test_curl_uploads_more_than_all_windows_and_a_denied_upload_is_answered(tmp_path: Any) -> None:
    require("curl", shutil.which("curl") is not None, "needs curl")
    body = tmp_path / "body"
    body.write_bytes(b"x" * LARGE)
    async with meshed() as between:
        for path, wanted in (("/up", f"POST /up {LARGE}\n200"), ("/denied", "denied by policy\n403")):
            url = f"http://127.0.0.1:{between.port}{path}"
            status, output = await run(
                *("curl", "-sS", "--http2-prior-knowledge", "-w", "%{http_code}", "-H", "Expect:"),
                *("--data-binary", f"@{body}", url),
            )
            assert (status, output) == (0, wanted)


async def test_curl_sees_the_head_of_a_denied_head_request() -> None:
    require("curl", shutil.which("curl") is not None, "needs curl")
    async with meshed() as between:
        url = f"http://127.0.0.1:{between.port}/denied"
        status, output = await run("curl", "-sSI", "--http2-prior-knowledge", url)
        assert (status, output.split("\r\n")[:3]) == (
            0,
            ["HTTP/2 403 ", "content-type: text/plain; charset=utf-8", "content-length: 17"],
        )


async def test_nghttp_fetches_many_at_once() -> None:
    require("nghttp", shutil.which("nghttp") is not None, "needs nghttp")
    async with meshed() as between:
        url = f"http://127.0.0.1:{between.port}"
        status, output = await run("nghttp", "-ns", "-m", "30", f"{url}/large", f"{url}/denied", f"{url}/b")
        assert status == 0, output
        found = [line.split() for line in output.splitlines() if " 200 " in line or " 403 " in line]
        assert len(found) >= 3, output
        assert {line[-1] for line in found} >= {"/large", "/denied", "/b"}
        assert len(between.links) == 1
