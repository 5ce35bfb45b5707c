"""Acknowledged writes survive kill -9 under load, a full disk, and a crash of the database."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL

from meshtls.errors import LocalIdentityError
from meshtls.registration import Entry
from meshtls.serverapi.admin import AdminClient
from meshtls.serverapi.channels import local_channel
from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import format_serial
from tests.support.require import require, succeeds
from tests.support.server import TD, entry, new_csr
from tests.support.server_process import server_process

NODE = SpiffeId(TD, "/node")
WEB = SpiffeId(TD, "/web")


def config_file(directory: Path, datastore: URL | None = None, data_dir: Path | None = None) -> Path:
    """A configuration for a process of its own."""
    path = directory / "server.yaml"
    lines = [
        f"trust_domain: {TD}",
        "bind_port: 0",
        f"data_dir: {data_dir or directory / 'server'}",
        f"socket_path: {directory / 'admin.sock'}",
    ]
    if datastore is not None and datastore.get_backend_name() == "postgresql":
        address = datastore.set(drivername="postgresql").render_as_string(hide_password=False)
        lines.append(f"datastore: {{postgres: {{connection_string: '{address}'}}}}")
    path.write_text("\n".join(lines))
    return path


@contextmanager
def administered(socket_path: Path) -> Iterator[AdminClient]:
    channel = local_channel(socket_path)
    try:
        yield AdminClient(channel)
    finally:
        channel.close()


class Load:
    """Creates entries and mints SVIDs as fast as the server responds; records what was acknowledged."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.serials: list[str] = []
        self.enough = asyncio.Event()

    async def enter(self, admin: AdminClient, worker: int) -> None:
        for number in range(10**6):
            self.entries += await admin.create_entries([entry(f"/e{worker}.{number}", NODE)])
            self._count()

    async def mint(self, admin: AdminClient) -> None:
        while True:
            self.serials.append(format_serial((await admin.mint_x509(WEB, new_csr()))[0]))
            self._count()

    def _count(self) -> None:
        if len(self.entries) >= 40 and len(self.serials) >= 40:
            self.enough.set()

    async def until_killed(self, admin: AdminClient, process: subprocess.Popen[str]) -> None:
        work = [asyncio.ensure_future(self.enter(admin, worker)) for worker in range(3)]
        work += [asyncio.ensure_future(self.mint(admin)) for _ in range(3)]
        async with asyncio.timeout(120):
            await self.enough.wait()
        process.kill()
        ended = await asyncio.gather(*work, return_exceptions=True)
        assert all(isinstance(one, LocalIdentityError) for one in ended), ended


async def test_kill_9_under_load_loses_no_entry_and_no_record_and_repeats_no_serial(
    tmp_path: Path, store_url: URL
) -> None:
    config = config_file(tmp_path, store_url)
    load = Load()
    with server_process(config) as (process, running), administered(running.socket_path) as admin:
        await load.until_killed(admin, process)
    with server_process(config) as (_, running), administered(running.socket_path) as admin:
        kept = {one.id: one async for one in admin.entries()}
        assert [kept.get(one.id) for one in load.entries] == load.entries
        recorded = [one.serial async for one in admin.issuances()]
        assert set(load.serials) <= set(recorded)
        assert len(set(recorded)) == len(recorded)
        load.serials.append(format_serial((await admin.mint_x509(WEB, new_csr()))[0]))
        assert len(set(load.serials)) == len(load.serials)


def in_small_disk(mount: Path) -> list[str]:
    """The prefix that runs a command with a file system of 2 MiB mounted at ``mount``."""
    script = 'mount -t tmpfs -o size=2m,mode=700 none "$0" && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, str(mount)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """Where ``in_small_disk`` may mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    able = os.geteuid() == 0 and succeeds([*in_small_disk(disk), "true"])
    require("mounts", able, "needs root and the right to mount, to make a small file system")
    return disk


async def test_a_full_disk_is_reported_and_no_acknowledged_write_is_lost(tmp_path: Path, small_disk: Path) -> None:
    disk = small_disk
    config = config_file(tmp_path, data_dir=disk)
    with (
        server_process(config, in_small_disk(disk)) as (process, running),
        administered(running.socket_path) as admin,
    ):
        [first] = await admin.create_entries([entry("/first", NODE)])
        filler = Path(f"/proc/{process.pid}/root{disk}/filler")
        fill(filler)
        with pytest.raises(LocalIdentityError) as refused:
            await admin.create_entries(entry(f"/w{n}", NODE, f"unix:path:/{'x' * 900}") for n in range(500))
        assert str(refused.value) == (
            f"data store SQLite file {disk}/datastore.sqlite3: database or disk is full;"
            " make room on the disk; nothing of this change was kept"
        )
        assert [one async for one in admin.entries()] == [first]
        health = await admin.health()
        [trouble] = health.troubles
        assert health.ready
        assert re.fullmatch(
            r"no change is kept since \S+Z: database or disk is full; make room on the disk; .*", trouble
        )
        os.unlink(filler)
        [second] = await admin.create_entries([entry("/second", NODE)])
        assert (await admin.health()).troubles == ()
        assert {one.id async for one in admin.entries()} == {first.id, second.id}


def fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        file.writelines(itertools.repeat(b"\0" * 4096))
