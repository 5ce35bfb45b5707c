"""Each check of the soak run can fail: the same code is given a violation, and has to report it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from meshtls.bundle import TrustBundle
from meshtls.clock import SystemClock
from meshtls.node.impostor import foreign_svid
from meshtls.tls.keys import load_svid
from tests.soak.app import App, serving
from tests.soak.friendly import FriendlyLoad
from tests.soak.mesh import ALLOWED, DOMAIN, FLOWS, Mesh, id_of
from tests.soak.plateau import Sample
from tests.soak.programs import Program
from tests.soak.report import Report
from tests.soak.resources import Resources
from tests.soak.stopping import Load
from tests.soak.strangers import Credentials, StrangerLoad
from tests.soak.violations import Violations
from tests.soak.writers import WritersLoad
from tests.support.agent import entry
from tests.support.ports import free_ports
from tests.support.server import config_for, started

PLAIN = ("db", False)
FLOW = FLOWS[0]


async def nothing(*_: object) -> None:
    return


def mesh_of(directory: Path, **ports: Any) -> Mesh:
    """An unstarted mesh with these ports for the flow and the listener under test."""
    server, agent, *sidecars = (
        Program(name, [], directory / f"{name}.out", nothing) for name in ("server", "agent", "web", "db", "brief")
    )
    named = {("outbound", FLOW.name): ports.get("outbound", 0), ("inbound", PLAIN): ports.get("inbound", 0)}
    entries = {"web": entry("/web")}
    return Mesh(directory, server, agent, tuple(sidecars), TrustBundle(DOMAIN, ()), entries, named)


@asynccontextmanager
async def open_to_all() -> AsyncIterator[int]:
    """A TLS listener that verifies no client and echoes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_svid(context, foreign_svid(id_of("db"), SystemClock()))
    app = App("open to all", Violations())
    server = await asyncio.start_server(app.handle, "127.0.0.1", ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def strangers_at(directory: Path, violations: Violations) -> StrangerLoad:
    svid = foreign_svid(id_of("outsider"), SystemClock())
    return StrangerLoad(mesh_of(directory), Credentials(lambda: svid, svid), violations, Load(1))


async def test_a_listener_that_lets_anybody_in_is_a_wrong_admission_for_each_kind_of_stranger(tmp_path: Path) -> None:
    violations = Violations()
    strangers = strangers_at(tmp_path, violations)
    kinds = [kind for kind in strangers.kinds if kind != "plaintext"]
    async with open_to_all() as port:
        for kind in kinds:
            await strangers.attempt(kind, PLAIN, ("127.0.0.1", port), as_tunnel=False)
    assert violations.counts == {"wrong admission": len(kinds)}
    assert [one.detail.partition(":")[0] for one in violations.found] == kinds
    assert strangers.refused.total() == 0


async def test_a_stranger_that_reaches_an_app_is_seen_at_both_sides(tmp_path: Path) -> None:
    violations = Violations()
    strangers = strangers_at(tmp_path, violations)
    app = App("db", violations)
    [port] = free_ports(1)
    async with serving([(app, port)]):
        await strangers.attempt("plaintext", PLAIN, ("127.0.0.1", port), as_tunnel=False)
    assert violations.lines() == [
        "wrong admission: the app db got b'stranger 1 plaintext\\n' of a stranger",
        "wrong admission: plaintext: db's plain listener echoed b'stranger 1 plaintext\\n'",
    ]
    assert (app.strangers, app.served) == (1, 0)


async def test_a_stranger_whose_connection_is_cut_counts_as_refused(tmp_path: Path) -> None:
    violations = Violations()
    strangers = strangers_at(tmp_path, violations)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1")
    async with server:
        address = server.sockets[0].getsockname()
        for kind in strangers.kinds:
            await strangers.attempt(kind, PLAIN, address, as_tunnel=False)
    assert strangers.refused == dict.fromkeys(strangers.kinds, 1)
    assert violations.lines() == []


@asynccontextmanager
async def friendly_over(handler: Any, directory: Path) -> AsyncIterator[FriendlyLoad]:
    """Friendly clients whose sidecar is this handler."""
    server = await asyncio.start_server(handler, "127.0.0.1")
    async with server:
        port = server.sockets[0].getsockname()[1]
        apps = {listener: App(str(listener), Violations()) for listener in ALLOWED}
        yield FriendlyLoad(mesh_of(directory, outbound=port), apps, Load(1))


async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def damage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await reader.read(-1)).replace(b"x", b"y", 1))
    writer.close()


async def shorten(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await reader.read(-1))[:-1])
    writer.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read(-1))
    writer.close()


@pytest.mark.parametrize("handler", [cut, damage, shorten])
async def test_a_friendly_connection_without_every_byte_of_its_own_has_failed(handler: Any, tmp_path: Path) -> None:
    async with friendly_over(handler, tmp_path) as friendly:
        await friendly.attempt(FLOW, 100)
    assert friendly.served.total() == 0
    [(flow, connection)] = friendly.failures
    assert (flow, connection.ends) == (FLOW, ("web", "db"))


async def test_a_friendly_connection_with_every_byte_of_its_own_is_served(tmp_path: Path) -> None:
    async with friendly_over(echo, tmp_path) as friendly:
        await friendly.attempt(FLOW, 100)
    assert friendly.served == {FLOW.name: 1}
    assert friendly.failures == []


async def test_a_write_lost_by_the_store_is_detected(tmp_path: Path) -> None:
    violations = Violations()
    async with started(config_for(tmp_path)) as server:
        mesh = mesh_of(server.running.socket_path.parent)
        writers = WritersLoad(mesh, violations, load := Load(1))
        async with asyncio.TaskGroup() as tasks:
            writers.begin(tasks)
            while writers.model.acknowledged < 20:  # noqa: ASYNC110  # there is no event
                await asyncio.sleep(0.01)
            load.stop()
        await writers.compare(server.admin)
        assert violations.lines() == []

        [victim, *_] = [one async for one in server.admin.entries()]
        await server.admin.delete_entries([victim.id])
        await writers.compare(server.admin)
    assert violations.lines() == [
        f"lost write: {victim.spiffe_id}: wanted an entry with TTL {victim.x509_svid_ttl} by the calls that were"
        " answered, found no entry"
    ]


@pytest.mark.parametrize("quantity", ["memory", "descriptors"])
def test_a_process_that_grows_is_named(quantity: str, tmp_path: Path) -> None:
    violations = Violations()
    resources = Resources(mesh_of(tmp_path), violations)
    for program in resources.mesh.programs:
        for what in ("memory", "descriptors"):
            leaks = (program.name, what) == ("agent", quantity)
            taken = [Sample(second, 50 + second * leaks) for second in range(60)]
            resources.samples[program.name, 1, what] = taken
    resources.judge()
    assert list(violations.counts) == [f"{quantity} grows"]
    assert [one.detail.partition(":")[0] for one in violations.found] == ["agent"]


def test_a_process_that_never_lived_long_enough_is_named(tmp_path: Path) -> None:
    violations = Violations()
    resources = Resources(mesh_of(tmp_path), violations)
    for program in resources.mesh.programs:
        for what in ("memory", "descriptors"):
            taken = [Sample(second, 50) for second in range(5 if program.name == "server" else 60)]
            resources.samples[program.name, 1, what] = taken
    resources.judge()
    assert violations.lines() == ["not tested: server lived 4 s at most: too short to judge"] * 2


def test_a_run_with_a_violation_has_failed() -> None:
    report = Report(seed=1, seconds=60, figures=[], trends=[], violations=[])
    assert report.exit_status == 0
    report = Report(seed=1, seconds=60, figures=[], trends=[], violations=["wrong admission: one"])
    assert report.exit_status == 1
