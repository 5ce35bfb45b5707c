"""requests follows a redirect within the mesh, and none out of it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import requests
from aiohttp import web

from meshtls import authorize_any, client_context, server_context
from meshtls.integrations.requests import MeshAdapter
from meshtls.pytest.mesh import Mesh
from tests.support.waiting import SECONDS


@asynccontextmanager
async def serving(location: str, context: ssl.SSLContext | None) -> AsyncIterator[str]:
    """``/old`` redirects to ``location``, ``/new`` answers; gives the address."""

    async def old(_request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": location})

    async def new(request: web.Request) -> web.Response:
        return web.Response(text=f"by {request.scheme}")

    app = web.Application()
    app.router.add_get("/old", old)
    app.router.add_get("/new", new)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def got(mesh: Mesh, url: str, *, insecure_redirects: bool = False) -> str:
    """The text that the last redirect leads to."""
    context = client_context(mesh.source("client"), authorize_any())
    with requests.Session() as session:
        session.mount("https://", MeshAdapter(context, insecure_redirects=insecure_redirects))
        return session.get(url, timeout=SECONDS).text


@pytest.mark.parametrize("to_its_whole_url", [True, False])
async def test_a_redirect_within_the_mesh_is_followed(mesh: Mesh, to_its_whole_url: bool) -> None:
    answering = server_context(mesh.source("server"), authorize_any())
    async with (
        serving("/new", answering) as there,
        serving(f"https://{there}/new" if to_its_whole_url else "/new", answering) as address,
    ):
        assert await asyncio.to_thread(got, mesh, f"https://{address}/old") == "by https"


async def test_a_redirect_out_of_the_mesh_is_refused(mesh: Mesh) -> None:
    answering = server_context(mesh.source("server"), authorize_any())
    async with serving("/new", None) as outside, serving(f"http://{outside}/new", answering) as address:
        with pytest.raises(requests.exceptions.InvalidSchema) as refused:
            await asyncio.to_thread(got, mesh, f"https://{address}/old")
        assert str(refused.value) == (
            f"https://{address}/old redirects to http://{outside}/new: wanted https, since other schemes are not"
            " verified; to allow it, create the MeshAdapter with insecure_redirects=True"
        )


async def test_a_redirect_out_of_the_mesh_is_followed_with_insecure_redirects(mesh: Mesh) -> None:
    answering = server_context(mesh.source("server"), authorize_any())
    async with serving("/new", None) as outside, serving(f"http://{outside}/new", answering) as address:
        answer = await asyncio.to_thread(lambda: got(mesh, f"https://{address}/old", insecure_redirects=True))
        assert answer == "by http"
