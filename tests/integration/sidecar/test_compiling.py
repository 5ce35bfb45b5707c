"""Policies are read and compiled beside the event loop: a sidecar serves meanwhile, by those that it had."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from meshtls.cli.sidecar_reload import ConfigFile, keep_reloading
from meshtls.errors import ConfigError
from meshtls.observe.events import RequestResult
from meshtls.policy.istio.compile import compile_policies
from meshtls.sidecar import policies as compiling
from meshtls.sidecar.off_loop import off_loop
from meshtls.sidecar.service import Sidecar
from meshtls.svid.context import ConstantSource
from meshtls.workload.background import in_background
from tests.integration.sidecar.governed import a_web_app
from tests.integration.sidecar.mesh import B, as_b
from tests.support.waiting import SECONDS, until

POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: paths, namespace: default}}
spec: {{rules: [{{to: [{{operation: {{paths: ["{path}"]}}}}]}}]}}
"""
SIDECAR = """
name: b
spiffe_id: {id}
inbound: [{{listen: "127.0.0.1:0", app: "{app}", protocol: http}}]
policies: [p.yaml]
"""


def allowing(path: str) -> str:
    return POLICY.format(path=path)


@dataclass
class Held:
    """Policies that are compiled wait here, where ``closed``."""

    threads: list[threading.Thread] = field(default_factory=list)
    done: list[threading.Thread] = field(default_factory=list)
    _open: threading.Event = field(default_factory=threading.Event)

    def close(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def __call__(self, *given: Any) -> Any:
        self.threads.append(threading.current_thread())
        assert self._open.wait(SECONDS)
        compiled = compile_policies(*given)
        self.done.append(threading.current_thread())
        return compiled


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    one = Held()
    one.release()
    monkeypatch.setattr(compiling, "compile_policies", one)
    yield one
    one.release()


@dataclass
class Running:
    sidecar: Sidecar
    file: Path
    told: list[RequestResult]
    hangup: asyncio.Event

    def change(self, text: str) -> None:
        """Replace the policies; they are read at once."""
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.rename(self.file)
        self.hangup.set()

    async def allows(self, path: str) -> bool:
        address = self.sidecar.inbound[0].address
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            async with asyncio.timeout(SECONDS):
                writer.write(f"GET {path} HTTP/1.1\r\nhost: b\r\nconnection: close\r\n\r\n".encode())
                status = (await reader.readline()).split()[1]
        finally:
            writer.close()
        assert status in (b"200", b"403")
        return status == b"200"


@contextlib.asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Running]:
    async with a_web_app() as web:
        (directory / "p.yaml").write_text(allowing("/old"))
        file = directory / "sidecar.yaml"
        file.write_text(SIDECAR.format(id=B, app=web.address))
        config, hangup, told = ConfigFile(file, None), asyncio.Event(), list[RequestResult]()
        async with (
            Sidecar(config.running, ConstantSource(as_b()), on_result=lambda _: None, on_request=told.append) as one,
            in_background(keep_reloading(one, config, hangup), "reload"),
        ):
            yield Running(one, directory / "p.yaml", told, hangup)


async def until_true(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await condition():  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)


async def test_requests_are_served_by_the_policies_in_use_while_newer_ones_are_compiled(
    tmp_path: Path, held: Held
) -> None:
    async with running(tmp_path) as b:
        held.close()
        before = len(held.threads)
        b.change(allowing("/new"))
        await until(lambda: len(held.threads) > before)
        assert held.threads[-1] is not threading.current_thread()
        assert [await b.allows(path) for path in ("/old", "/new") * 3] == [True, False] * 3
        await until(lambda: len(b.told) == 6)
        held.release()
        await until_true(lambda: b.allows("/new"))
        assert not await b.allows("/old")
        assert threading.current_thread() not in held.threads[before:]


async def test_the_newest_of_several_changes_is_in_use_in_the_end(tmp_path: Path, held: Held) -> None:
    async with running(tmp_path) as b:
        held.close()
        before = len(held.threads)
        b.change(allowing("/second"))
        await until(lambda: len(held.threads) > before)
        b.change(allowing("/third"))
        b.change(allowing("/fourth"))
        held.release()
        await until_true(lambda: b.allows("/fourth"))
        await until(lambda: not b.hangup.is_set())
        assert [await b.allows(path) for path in ("/old", "/second", "/third")] == [False] * 3
        assert b.sidecar.not_taken == ""


async def test_an_invalid_change_while_a_valid_one_is_compiled_leaves_the_valid_one_in_use(
    tmp_path: Path, held: Held
) -> None:
    async with running(tmp_path) as b:
        held.close()
        before = len(held.threads)
        b.change(allowing("/second"))
        await until(lambda: len(held.threads) > before)
        b.change("kind: [")
        held.release()
        await until(lambda: b.sidecar.not_taken != "")
        assert [await b.allows(path) for path in ("/old", "/second")] == [False, True]
        assert "p.yaml" in b.sidecar.readiness().text
        b.change(allowing("/third"))
        await until_true(lambda: b.allows("/third"))
        assert b.sidecar.not_taken == ""


async def test_policies_that_can_not_be_compiled_change_nothing(
    tmp_path: Path, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any) -> Any:
        raise ConfigError("p.yaml, line 5: it has no meaning")

    async with running(tmp_path) as b:
        monkeypatch.setattr(compiling, "compile_policies", fails)
        b.change(allowing("/new"))
        await until(lambda: b.sidecar.not_taken == "p.yaml, line 5: it has no meaning")
        assert [await b.allows(path) for path in ("/old", "/new")] == [True, False]


async def test_a_sidecar_that_stops_does_not_wait_for_policies_and_takes_them_no_more(
    tmp_path: Path, held: Held
) -> None:
    async with running(tmp_path) as b:
        held.close()
        before, view = len(held.threads), b.sidecar.view
        b.change(allowing("/new"))
        await until(lambda: len(held.threads) > before)
    assert held.done == held.threads[:before]
    held.release()
    await until(lambda: not held.threads[-1].is_alive())
    assert len(held.done) == before + 1
    assert b.sidecar.view is view


async def test_an_error_raised_off_the_loop_is_raised_to_the_caller() -> None:
    def fails() -> None:
        raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError, match="a defect"):
        await off_loop(fails, "test")


def test_a_loop_that_is_closed_before_the_work_ends_is_no_error(recwarn: pytest.WarningsRecorder) -> None:
    release, threads = threading.Event(), list[threading.Thread]()

    def work() -> None:
        threads.append(threading.current_thread())
        assert release.wait(SECONDS)

    async def leave() -> None:
        task = asyncio.create_task(off_loop(work, "test"))
        await until(lambda: bool(threads))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    release.set()
    threads[0].join(SECONDS)
    assert not threads[0].is_alive()
    assert not recwarn.list
