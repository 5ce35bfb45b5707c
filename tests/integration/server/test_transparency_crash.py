"""A server that is killed at each step of an append, of a signature or of its first start loses and repeats nothing."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from sqlalchemy import URL

from meshtls.ca.tlog.frontier import Frontier
from meshtls.ca.tlog.leaf import Leaf
from meshtls.ca.tlog.note import NoteKey
from meshtls.serverapi.admin import AdminClient
from meshtls.serverapi.log_reader import AdminLog, LogReader
from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import format_serial
from tests.integration.server.test_crash import administered, config_file
from tests.support.forking import Forks, server_fork
from tests.support.server import TD, new_csr

WEB = SpiffeId(TD, "/web")
#: One statement of those that record an SVID, in order: the log's tree, its leaves and nodes, the record, the trail's
#: head and lines.
STATEMENT = "statement"
STATEMENTS = {"sqlite": "meshtls.server.store.database._run_one", "postgresql": "meshtls.server.store.database.quick"}
#: Where a process ends itself: module, function, and whether before or after it.
STEPS = [
    ("meshtls.server.ledger.Ledger._append", "before"),
    ("meshtls.server.ledger.Ledger._append", "after"),
    (STATEMENT, "after"),
    ("meshtls.server.ledger.Ledger._end", "before"),
    ("meshtls.server.log_guard.LogGuard.store", "before"),
    ("meshtls.server.log_guard.LogGuard.store", "after"),
    ("meshtls.server.store.transparency.store_checkpoint", "before"),
    ("meshtls.server.store.transparency.store_checkpoint", "after"),
    ("meshtls.server.store.transparency.add_log_key", "before"),
]


async def kept(admin: AdminClient, at_least: int = 0) -> list[Leaf]:
    """All leaves, verified."""
    keys = (await admin.read_log("keys")).decode().split()
    reader = LogReader(AdminLog(admin), [NoteKey.parse(key) for key in keys])
    while (checkpoint := (await reader.checkpoint())[0]).size < at_least:
        continue  # each look is a call that waits for its response
    parts = [part async for part in reader.read(Frontier(), checkpoint)]
    return [Leaf.parse(one) for part in parts for one in part.entries]


@pytest.mark.parametrize(("step", "when"), STEPS)
async def test_kill_at_each_step_leaves_a_log_with_every_svid_that_left_the_server(
    step: str, when: str, tmp_path: Path, store_url: URL, forked: Forks
) -> None:
    config = config_file(tmp_path, store_url)
    received: list[str] = []
    old: list[Leaf] = []
    if not step.endswith("add_log_key"):
        with server_fork(forked, config) as running, administered(running.socket_path) as admin:
            received.append(format_serial((await admin.mint_x509(WEB, new_csr()))[0]))
            old = await kept(admin, 5)
    # The key of a server is added once, and every other step comes again and again.
    backend = store_url.get_backend_name()
    passages: tuple[int, ...] = (0,) if step.endswith("add_log_key") else (0, 4) if backend == "sqlite" else (4,)
    if step == STATEMENT:
        step, passages = STATEMENTS[backend], tuple(range(24, 29))
    for calls in passages:
        received += killed_at(forked, step, when, config, calls)
    with server_fork(forked, config) as running, administered(running.socket_path) as admin:
        received.append(format_serial((await admin.mint_x509(WEB, new_csr()))[0]))
        recorded = [one async for one in admin.issuances()]
        leaves = await kept(admin, 2 + len(recorded))
        assert leaves[: len(old)] == old
        serials = [leaf.serial for leaf in leaves]
        assert set(received) <= set(serials)
        assert len(set(serials)) == len(serials)
        # The log and the record are one transaction: neither has what the other lacks.
        assert {one.serial for one in recorded} == set(serials[2:])
        lines = [line async for line in admin.audit()]
        assert [line.number for line in lines] == list(range(1, len(lines) + 1))


def killed_at(forked: Forks, step: str, when: str, config: Path, calls: int) -> list[str]:
    """Run a server that ends itself at its ``calls``-th passage of that step, and mint until it does."""
    module = "tests.integration.server.killed_at"
    code, said, errors = forked.run(module, step, when, str(calls), config, directory=config.parent)
    assert code == -signal.SIGKILL, errors
    received: list[str] = json.loads(said or "[]")
    return received
