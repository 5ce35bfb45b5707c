"""``meshtls check`` of processes that run, by the admin sockets that MESHTLS_ADMIN_INTERFACE names, without a file."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from meshtls.address import Address
from meshtls.admin.keys import AdminKeys
from tests.integration.cli.identity_site import running_server
from tests.integration.sidecar.mesh import an_app, side_b
from tests.support.ports import free_ports
from tests.support.waiting import SECONDS

VARIABLE = "MESHTLS_ADMIN_INTERFACE"


@pytest.fixture(autouse=True)
def no_workload_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)
    monkeypatch.delenv(VARIABLE, raising=False)


async def check(*words: str | Path) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """The exit code, and the checks of each group but that of the machine."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "meshtls", "check", "--output", "json", *map(str, words)),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS):
        out, _ = await process.communicate()
    assert process.returncode is not None
    groups = {one["group"]: one["checks"] for one in json.loads(out)["groups"]}
    del groups["this machine"]
    return process.returncode, groups


def failures(groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    found = [one for checks in groups.values() for one in checks if one["result"] == "failed"]
    return [f"{one['problem']}: {one['reason']} -> {one['advice']}" for one in found]


async def test_the_sidecars_at_the_named_sockets_are_checked_and_no_workload_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, gone = tmp_path / "b.sock", tmp_path / "gone.sock"
    async with an_app() as app, side_b(app.address, admin=AdminKeys(socket=path)):
        monkeypatch.setenv(VARIABLE, str(path))
        code, groups = await check()
        assert (code, list(groups), failures(groups)) == (0, ["the sidecar b"], [])
        assert [one["check"] for one in groups["the sidecar b"]] == [
            f"the sidecar at {path} has the version of this command",
            "the sidecar b is ready",
            f"the app at {app.address} accepts connections",
            "its latest connections and requests were served",
        ]
        monkeypatch.setenv(VARIABLE, f"{path},{gone}")
        code, groups = await check()
        assert (code, list(groups)) == (1, ["the sidecar b", f"the process at {gone}"])
        assert failures(groups) == [
            f"the admin interface at {gone} does not answer: nothing answers there: No such file or directory; is the"
            " process running, with this admin.socket, as this user? -> start the process, or correct"
            f" {VARIABLE}: `meshtls up` prints another one at each start"
        ]


async def test_a_server_at_a_named_socket_is_checked_for_its_version_and_readiness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "server.sock"
    monkeypatch.setenv(VARIABLE, str(path))
    with running_server(f"admin: {{socket: {path}}}\n"):
        code, groups = await check()
    told = {name: [(one["check"], one["result"]) for one in checks] for name, checks in groups.items()}
    who = f"the server at {path}"
    assert (code, told) == (
        0,
        {who: [(f"{who} has the version of this command", "passed"), (f"{who} is ready", "passed")]},
    )


async def test_an_app_that_is_down_and_a_sidecar_that_drains_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, [port] = tmp_path / "b.sock", free_ports(1)
    monkeypatch.setenv(VARIABLE, str(path))
    async with side_b(Address("127.0.0.1", port), admin=AdminKeys(socket=path)) as b:
        app = (
            f"the app at 127.0.0.1:{port} accepts no connections: 127.0.0.1:{port} can't be reached: Connection refused"
            " -> start the app, or correct inbound.app"
        )
        assert failures((await check())[1]) == [app]
        b.sidecar.drain_in_background()
        assert failures((await check())[1]) == ["the sidecar b is not ready: draining -> see its log", app]


async def test_a_running_sidecar_is_checked_by_its_name_or_its_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "b.sock"
    advice = (
        f"give the path of its file, or export {VARIABLE} as `meshtls up` prints it, and the name of one of its"
        " sidecars"
    )
    async with an_app() as app, side_b(app.address, admin=AdminKeys(socket=path)):
        assert (await check("--sidecar", path))[0] == 0
        code, groups = await check("--sidecar", "b")
        assert (code, failures(groups)) == (
            1,
            [
                "no sidecar b is known here: --sidecar b: wanted the file of a sidecar, its admin socket, or its name"
                f" with {VARIABLE} set to the paths of admin sockets; it is no file here, and the variable is not set"
                f" -> {advice}"
            ],
        )
        monkeypatch.setenv(VARIABLE, str(path))
        code, groups = await check("--sidecar", "b")
        assert (code, list(groups)) == (0, ["the sidecar b"])
        code, groups = await check("--sidecar", "c")
        assert (code, failures(groups)) == (
            1,
            [
                f"no sidecar c is known here: --sidecar c: no sidecar of {VARIABLE} has this name: {path}: sidecar b ->"
                f" {advice}"
            ],
        )


async def test_named_processes_are_checked_alone_and_the_workload_api_where_it_has_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, missing = tmp_path / "b.sock", tmp_path / "none.sock"
    monkeypatch.setenv(VARIABLE, str(path))
    async with an_app() as app, side_b(app.address, admin=AdminKeys(socket=path)):
        _, groups = await check("--agent", tmp_path / "agent.yaml")
        assert list(groups) == ["the agent"]
        monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", f"unix://{missing}")
        code, groups = await check()
        assert (code, list(groups)) == (1, [f"the Workload API at unix://{missing}", "the sidecar b"])
