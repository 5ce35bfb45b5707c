"""``--sidecar`` of ``meshtls capture live``, for keys, and of ``explain connection``: which sidecar is asked, and
what is said where none is found.
``tests/integration/capture/test_matrix.py`` has the way in which it succeeds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from meshtls.admin.keys import AdminKeys
from meshtls.cli.admin.sockets import VARIABLE
from tests.integration.cli.processes import meshtls
from tests.integration.sidecar.mesh import an_app, side_b
from tests.support.agent import short_directory


def live(sidecar: str) -> tuple[int, str]:
    """The exit code, and what is said on standard error."""
    done = meshtls("capture", "live", "-i", "lo", "--seconds", "1", "--sidecar", sidecar)
    return done.returncode, done.stderr


def explained(sidecar: str) -> tuple[int, str]:
    """The same for `explain connection`."""
    done = meshtls("explain", "connection", "00" * 8, "--sidecar", sidecar)
    return done.returncode, done.stderr


async def beside_b(
    monkeypatch: pytest.MonkeyPatch, sidecar: str, ask: Callable[[str], tuple[int, str]] = live
) -> tuple[tuple[int, str], Path]:
    """What is said while a sidecar named ``b`` runs, which keeps no secrets."""
    with short_directory() as directory:
        socket = directory / "admin"
        monkeypatch.setenv(VARIABLE, str(socket))
        async with an_app() as app, side_b(app.address, admin=AdminKeys(socket=socket)):
            return await asyncio.to_thread(ask, sidecar.format(socket=socket)), socket


@pytest.mark.parametrize("named", ["b", "{socket}"], ids=["by its name", "by its socket"])
async def test_a_sidecar_is_found_and_asked(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    told, socket = await beside_b(monkeypatch, named)
    assert told == (
        1,
        f"meshtls: {socket}: /tls_keys: this sidecar keeps no TLS secrets: set insecure_keylog_file and run it with"
        " --allow-insecure-keylog while you debug\n",
    )


@pytest.mark.parametrize("named", ["b", "{socket}"], ids=["by its name", "by its socket"])
async def test_the_sidecar_that_the_advice_of_a_capture_names_is_asked_for_the_connection(
    monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    told, socket = await beside_b(monkeypatch, named, explained)
    assert told == (
        1,
        f"meshtls: connection {'00' * 8}: no record of it in {socket}; give the access logs of its sidecars with"
        " --log\n",
    )


async def test_another_name_is_refused_with_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    told, socket = await beside_b(monkeypatch, "c")
    assert told == (
        2,
        f"meshtls: --sidecar c: no sidecar of {VARIABLE} has this name: {socket}: sidecar b\n",
    )


def test_a_name_without_sockets_to_ask_says_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    told = live("b")
    assert told == (
        2,
        f"meshtls: --sidecar b: wanted the file of a sidecar, its admin socket, or its name with {VARIABLE} set to the"
        " paths of admin sockets; it is no file here, and the variable is not set\n",
    )


def test_a_file_that_is_not_there_is_no_name(tmp_path: Path) -> None:
    told = live(str(tmp_path / "b.yaml"))
    assert told[0] == 2
    assert told[1].startswith(f"meshtls: {tmp_path / 'b.yaml'}: ")
