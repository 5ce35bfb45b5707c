"""Breakages of what identities come from: the server, the agent, its socket, files, clocks and disks."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from meshtls.observe.events import Outcome
from tests.e2e.day_in_the_life.breakage import Breakage, Sample
from tests.e2e.day_in_the_life.mesh import DB, WEB, Mesh, new_entry
from tests.e2e.day_in_the_life.programs import until
from tests.support.ports import free_ports

__all__ = ["NODES"]


@contextmanager
def _entry_removed(mesh: Mesh) -> Iterator[None]:
    mesh.told("entry", "delete", "--entry-id", mesh.entries[WEB])
    until(lambda: not mesh.readiness("web").startswith("ready"), lambda: mesh.readiness("web"))
    mesh.call()
    yield
    mesh.entries[WEB] = new_entry(mesh, WEB)


@contextmanager
def _clock_ahead(mesh: Mesh) -> Iterator[None]:
    """The sidecar's machine is two hours ahead of the CA's; its monotonic clock is right."""
    # The command would be a parent of the sidecar, and signals would end it alone.
    library = subprocess.run(("faketime", "-f", "+2h", "printenv", "LD_PRELOAD"), capture_output=True, check=True)
    shifts = (f"LD_PRELOAD={library.stdout.decode().strip()}", "FAKETIME=+2h", "FAKETIME_DONT_FAKE_MONOTONIC=1")
    with _restarted(mesh, ("env", *shifts)):
        yield


@contextmanager
def _restarted(mesh: Mesh, prefix: tuple[str, ...]) -> Iterator[None]:
    """The sidecar of ``web`` is started anew with this prefix."""
    mesh.web.stop()
    mesh.web.prefix = prefix
    mesh.web.start(wait=False)
    yield
    mesh.web.stop()
    mesh.web.prefix = ()
    mesh.web.start()


@contextmanager
def _socket_closed(mesh: Mesh) -> Iterator[None]:
    """Nobody may open the agent's socket. Root may do anything, unless it gives up that capability."""
    path = mesh.directory / "agent.sock"
    mode = path.stat().st_mode
    path.chmod(0)
    drop = "-dac_override,-dac_read_search"
    root = os.geteuid() == 0
    with _restarted(mesh, ("setpriv", "--bounding-set", drop, "--inh-caps", drop) if root else ("env",)):
        yield
        path.chmod(mode)


@contextmanager
def _policy_invalid(mesh: Mesh) -> Iterator[None]:
    with mesh.policy("invalid", _INVALID):
        yield


_INVALID = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: typo, namespace: default}
spec: {action: PERMIT}
"""


@contextmanager
def _server_down(mesh: Mesh) -> Iterator[None]:
    mesh.server.stop(kill=True)
    yield
    mesh.server.start()
    until(lambda: mesh.readiness("agent").startswith("ready\n"), lambda: mesh.readiness("agent"))


@contextmanager
def _agent_down(mesh: Mesh) -> Iterator[None]:
    mesh.agent.stop(kill=True)
    yield
    mesh.agent.start()
    until(lambda: mesh.readiness("web").startswith("ready\n"), lambda: mesh.readiness("web"))


@contextmanager
def _agent_banned(mesh: Mesh) -> Iterator[None]:
    mesh.told("agents", "ban", "--spiffe-id", mesh.agent_id)
    yield
    mesh.told("agents", "evict", "--spiffe-id", mesh.agent_id)
    mesh.agent.stop()
    shutil.rmtree(mesh.directory / "agent")
    for entry in mesh.entries.values():
        mesh.told("entry", "delete", "--entry-id", entry)
    token = mesh.told("token", "generate")
    mesh.agent_id = token["agent_id"]
    mesh.entries = {spiffe_id: new_entry(mesh, spiffe_id) for spiffe_id in (WEB, DB)}
    mesh.write("agent", join_token=token["token"])
    mesh.agent.start()


@contextmanager
def _token_used(mesh: Mesh) -> Iterator[None]:
    """The agent has lost its data directory, and its file still has the token of its first start."""
    kept, aside = mesh.directory / "agent", mesh.directory / "agent-aside"
    mesh.agent.stop()
    kept.rename(aside)
    mesh.agent.start(wait=False)
    yield
    mesh.agent.stop()
    shutil.rmtree(kept)
    aside.rename(kept)
    mesh.agent.start()


@contextmanager
def _port_taken(mesh: Mesh) -> Iterator[None]:
    mesh.db.stop()
    with socket.create_server(mesh.port("db tcp")):
        mesh.db.start(wait=False)
        yield
    mesh.db.stop()
    mesh.db.start()


@contextmanager
def _endpoint_down(mesh: Mesh) -> Iterator[None]:
    [port] = free_ports(1)
    url = ("--bundle-endpoint-url", f"https://127.0.0.1:{port}/", "--bundle-endpoint-profile", "https_web")
    mesh.told("federation", "create", "--trust-domain", "gone.test", *url)
    yield
    mesh.told("federation", "delete", "--trust-domain", "gone.test")


@contextmanager
def _disk_full(mesh: Mesh) -> Iterator[None]:
    filler = Path(f"/proc/{mesh.server.pid}/root{mesh.directory}/server/filler")
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    who = ("--parent-id", mesh.agent_id, "--selector", f"unix:path:/{'x' * 900}")
    attempts = (mesh.tell("entry", "create", "--spiffe-id", f"{WEB}/{n}", *who) for n in range(500))
    # Until what the files of the data store have room for is used up.
    assert any(told.code == 1 for told in attempts), "a full disk takes every entry"
    yield
    filler.unlink()
    # The next change says that it is over.
    mesh.told("entry", "delete", "--entry-id", mesh.told("entry", "create", "--spiffe-id", f"{WEB}/kept", *who)["id"])


@contextmanager
def _token_away(mesh: Mesh) -> Iterator[None]:
    """The token with the CA's keys is pulled, and an SVID is asked for."""
    assert mesh.hsm is not None

    def mints() -> bool:
        return mesh.tell("x509", "mint", "--spiffe-id", WEB, "--output", "json").code == 0

    mesh.hsm.pull()
    try:
        assert not mints(), "a token that is away signs"
        yield
    finally:
        mesh.hsm.plug()
    until(mints, lambda: mesh.server.said()[-3000:])


@contextmanager
def _authority_tainted(mesh: Mesh) -> Iterator[None]:
    """Its root is replaced first, so that all SVIDs can be."""
    mesh.told("authority", "prepare")
    until(lambda: mesh.tell("authority", "activate").code == 0, lambda: str(mesh.tell("authority", "show")))
    tainted = mesh.told("authority", "taint")["id"]
    yield
    # By force: SVIDs of entries that other breakages have deleted hang on it until they expire.
    mesh.told("authority", "revoke", tainted, "--force")
    mesh.directory.joinpath("bundle.pem").write_text(mesh.tell("bundle", "show").out)


NODES = (
    Breakage(
        name="a removed entry",
        symptom="a workload has lost its identity, and all its calls fail",
        cause=f"wanted an SVID of {WEB}, got {DB}",
        at="web",
        broken=_entry_removed,
        outcome=Outcome.LOCAL_IDENTITY,
        metric=Sample("meshtls_svid_valid", 0, "web"),
    ),
    Breakage(
        name="a wrong clock",
        symptom="a sidecar does not become ready, though the agent gives it SVIDs",
        cause="expired at …; our clock says …",
        at="web",
        broken=_clock_ahead,
        metric=Sample("meshtls_workload_api_failures_total", None, "web", 'reason="expired"'),
        needs="faketime",
    ),
    Breakage(
        name="an agent's socket that may not be opened",
        symptom="a sidecar or program of another user gets no identity",
        cause="cannot connect (Permission denied)",
        at="web",
        broken=_socket_closed,
        metric=Sample("meshtls_workload_api_failures_total", None, "web", 'reason="socket_denied"'),
        needs="setpriv",
    ),
    Breakage(
        name="an agent that is down",
        symptom="SVIDs are not renewed; live connections go on",
        cause="cannot connect (Connection refused)",
        at="web",
        broken=_agent_down,
        metric=Sample("meshtls_workload_api_failures_total", None, "web", 'reason="unreachable"'),
    ),
    Breakage(
        name="a CA that is down",
        symptom="agents get no new SVIDs; what they have is served until it expires",
        cause="the server can't be reached: Connection refused",
        at="agent",
        broken=_server_down,
        metric=Sample("meshtls_agent_sync_failures_total", None, "agent", 'reason="unreachable"'),
    ),
    Breakage(
        name="a used join token",
        symptom="an agent does not start again after its data directory was lost",
        cause="join token: it is unknown, used or expired; make a new one",
        at="agent",
        broken=_token_used,
        metric=Sample("meshtls_agent_synced", 0, "agent"),
    ),
    Breakage(
        name="a banned agent",
        symptom="all workloads of a node lose their identities",
        cause="agent spiffe://example.org/meshtls/agent/… is banned",
        at="agent",
        broken=_agent_banned,
        metric=Sample("meshtls_agent_synced", 0, "agent"),
    ),
    Breakage(
        name="an invalid policy",
        symptom="a change of policy has no effect",
        cause="invalid.yaml, line 4: spec.action: wanted ALLOW, DENY, AUDIT or CUSTOM, got 'PERMIT'",
        at="db",
        broken=_policy_invalid,
        metric=Sample("meshtls_config_outdated", 1, "db"),
    ),
    Breakage(
        name="a port that is taken",
        symptom="a sidecar ends at its start",
        cause="127.0.0.1:…: Address already in use",
        at="db",
        broken=_port_taken,
        measured="none of its own, since the process ends: `up` is 0, and `MeshtlsDown` fires",
        page_words="nothing answers there: …; is the process running",
    ),
    Breakage(
        name="a full disk",
        symptom="the server answers, and changes nothing and issues nothing",
        cause="database or disk is full",
        at="server",
        broken=_disk_full,
        metric=Sample("meshtls_server_store_failures_total", None, "server"),
        needs="mounts",
    ),
    Breakage(
        name="a token with the CA's keys that is away",
        symptom="the server answers, and issues nothing",
        cause="token mesh of …: wanted a token that can be used",
        at="server",
        broken=_token_away,
        metric=Sample("meshtls_server_signing_failures_total", None, "server", 'type="x509",reason="authority"'),
        needs="softhsm",
    ),
    Breakage(
        name="a bundle endpoint that is down",
        symptom="a partner's new roots do not arrive",
        cause="127.0.0.1:… can't be reached: Connection refused",
        at="server",
        broken=_endpoint_down,
        page="Trust",
        metric=Sample("meshtls_server_federation_stale", 1, "server", 'trust_domain="gone.test"'),
    ),
    Breakage(
        name="a tainted authority",
        symptom="every SVID is replaced within seconds, and the old root is still in the bundle",
        cause="X.509 authority … is tainted",
        at="server",
        broken=_authority_tainted,
        metric=Sample("meshtls_server_authorities", 1, "server", 'kind="x509",state="tainted"'),
        page="Trust",
    ),
)
