"""Real clients and real servers with the filter between them, whose rulings come late."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import httpx
import pytest
from aiohttp import web

from meshtls.wire.http import Forward, HttpRequest, Refuse, Ruling
from tests.integration.http1.apps import SERVER_NAMES, served
from tests.integration.http1.passing import passing
from tests.support.require import require

LONG = bytes(range(256)) * 4096


def rule(request: HttpRequest) -> Ruling:
    return Refuse(403, "denied\n") if request.path.startswith("/no") else Forward(request)


async def curl(*arguments: str) -> tuple[str, str]:
    """curl's output and what it logs with -v."""
    program = shutil.which("curl")
    require("curl", program is not None, "wanted curl")
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        program,
        "-sv",
        "--max-time",
        "60",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, log = await process.communicate()
    assert process.returncode == 0, log
    return out.decode(), log.decode()


@pytest.mark.parametrize("name", SERVER_NAMES)
async def test_curl_gets_answers_and_denials_on_one_connection(name: str) -> None:
    async with served(name) as server, passing(rule, server.port) as port:
        urls = [f"http://127.0.0.1:{port}{path}" for path in ("/1", "/no", "/2")]
        out, log = await curl(*urls)
    assert out == "okdenied\nok"
    assert log.count("Connected to") + log.count("Established connection") == 1
    assert [text for seen in server.understood.values() for text in seen] == [
        f"GET /{path} 127.0.0.1:{port} ''" for path in "12"
    ]


@pytest.mark.parametrize("name", ["h11", "httptools"])  # aiohttp's plain server sends no 100
@pytest.mark.parametrize(("path", "code", "got"), [("/yes", "200", True), ("/no", "403", False)])
async def test_curl_that_expects_100_sends_its_body_only_if_it_may(
    name: str, path: str, code: str, got: bool, tmp_path: Path
) -> None:
    (tmp_path / "body").write_bytes(LONG)
    async with served(name) as server, passing(rule, server.port) as port:
        out, log = await curl(
            *("-H", "Expect: 100-continue", "--expect100-timeout", "60", "-T", str(tmp_path / "body")),
            *("-o", "/dev/null", "-w", "%{http_code} %{size_upload}", f"http://127.0.0.1:{port}{path}"),
        )
    assert out == f"{code} {len(LONG) if got else 0}"
    assert ("100 Continue" in log) is got
    assert bool(server.understood) is got


@pytest.mark.parametrize("name", SERVER_NAMES)
async def test_httpx_streams_a_chunked_body(name: str) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(LONG), 100_000):
            yield LONG[start : start + 100_000]

    async with served(name) as server, passing(rule, server.port) as port, httpx.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{port}"
        assert (await client.post(f"{url}/a", content=parts())).text == "ok"
        assert (await client.post(f"{url}/no", content=b"short")).status_code == 403
        assert (await client.head(f"{url}/a")).status_code == 200
        assert (await client.get(f"{url}/b")).text == "ok"
    seen = [text for one in server.understood.values() for text in one]
    assert seen[0] == f"POST /a 127.0.0.1:{port} {LONG.decode('latin-1')!r}"
    assert [text.split(" ")[0] for text in seen] == ["POST", "HEAD", "GET"]


async def test_a_websocket_passes_both_ways() -> None:
    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"{request.path} {message.data}")
        return socket

    app = web.Application()
    app.router.add_get("/{path:.*}", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with passing(rule, runner.addresses[0][1]) as port, aiohttp.ClientSession() as session:
        async with session.ws_connect(f"http://127.0.0.1:{port}/yes") as socket:
            for text in ("one", "two"):
                await socket.send_str(text)
                assert await socket.receive_str() == f"/yes {text}"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"http://127.0.0.1:{port}/no")
        assert refused.value.status == 403
    await runner.cleanup()
