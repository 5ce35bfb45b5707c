"""Programs without an event loop: verification can't be turned off in requests, and a source runs in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import requests

from examples import aiohttp_server
from meshtls import ConfigError, LocalIdentityError, X509Source, authorize_any, client_context, server_context
from meshtls.integrations.blocking import blocking
from meshtls.integrations.requests import MeshAdapter
from meshtls.pytest.mesh import Mesh
from tests.integration.library.served import served
from tests.support.waiting import SECONDS


def session_of(mesh: Mesh) -> requests.Session:
    session = requests.Session()
    session.mount("https://", MeshAdapter(client_context(mesh.source("client"), authorize_any())))
    return session


class TestMeshAdapter:
    @pytest.mark.parametrize(
        ("asked", "named"), [({"verify": False}, "verify=False"), ({"cert": "client.pem"}, "cert")]
    )
    async def test_a_request_cannot_turn_verification_off_or_show_another_certificate(
        self, mesh: Mesh, asked: dict[str, Any], named: str
    ) -> None:
        answering = server_context(mesh.source("server"), authorize_any())
        async with served(aiohttp_server.serving, answering) as address:
            assert await asyncio.to_thread(answers, session_of(mesh), f"https://{address}/")
            with session_of(mesh) as session, pytest.raises(ConfigError) as refused:
                await asyncio.to_thread(lambda: session.get(f"https://{address}/", **asked))
        assert str(refused.value) == (
            f"{named}: wanted neither; a meshtls context always verifies the server, and presents its source's own SVID"
        )

    async def test_a_ca_bundle_of_the_environment_changes_nothing(
        self, mesh: Mesh, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", requests.utils.DEFAULT_CA_BUNDLE_PATH)
        for server, welcome in ((mesh.source("server"), True), (mesh.foreign("server"), False)):
            async with served(aiohttp_server.serving, server_context(server, authorize_any())) as address:
                assert await asyncio.to_thread(answers, session_of(mesh), f"https://{address}/") is welcome


def answers(session: requests.Session, url: str) -> bool:
    try:
        with session:
            return session.get(url, timeout=SECONDS).ok
    except requests.exceptions.SSLError as error:
        assert "no path to a root of the bundle of trust domain example.org" in str(error)  # noqa: PT017
        return False


class TestBlocking:
    def test_a_source_follows_its_workload_api_while_the_body_runs(self, mesh: Mesh) -> None:
        api = mesh.workload_api("web")
        with blocking(X509Source(api.address)) as source:
            first = source.snapshot()
            assert first.svid.serial == api.serial
            api.rotate()
            while source.snapshot() is first:
                threading.Event().wait(0.005)  # nothing to wait on: the source's event belongs to its thread
            assert source.snapshot().svid.serial == api.serial
        with pytest.raises(LocalIdentityError, match="this source of X509-SVIDs was closed"):
            asyncio.run(source.changed())

    def test_an_exception_from_entering_is_raised(self, mesh: Mesh) -> None:
        with (
            pytest.raises(LocalIdentityError, match="no X509-SVID in 0"),
            blocking(X509Source("unix:///nonexistent/api.sock", timeout=0)),
        ):
            pytest.fail("entered")

    def test_the_bodys_own_exception_comes_out_as_it_is(self, mesh: Mesh) -> None:
        api = mesh.workload_api("web")
        with pytest.raises(ZeroDivisionError), blocking(X509Source(api.address)):
            _ = 1 / 0

    def test_an_exception_from_leaving_is_raised(self) -> None:
        @asynccontextmanager
        async def bad_end() -> AsyncIterator[str]:
            try:
                yield "value"
            finally:
                raise ConfigError("could not be left")

        with pytest.raises(ConfigError, match="could not be left"), blocking(bad_end()) as value:
            assert value == "value"
