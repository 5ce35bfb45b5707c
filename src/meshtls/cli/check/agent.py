"""An agent, by its file: its directory, its SVID, its server, its probes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from meshtls.address import Address
from meshtls.admin.serving import admin_notice
from meshtls.agent.config import AgentConfig, load_config
from meshtls.agent.node.store import NodeStore
from meshtls.bundle import BundleSet, TrustBundle
from meshtls.cli.check.files import Loaded, loaded
from meshtls.cli.check.finding import Checks, Claim, Finding, failed, passed, warning
from meshtls.cli.check.listeners import (
    free_findings,
    given,
    in_use,
    mismatch_findings,
    silent_findings,
    unused_findings,
)
from meshtls.cli.check.peers import peer_finding
from meshtls.cli.check.running import running_process
from meshtls.cli.check.sockets import private_finding, room_finding, socket_finding
from meshtls.cli.check.versions import version_finding
from meshtls.cli.check.workload import rotation_finding
from meshtls.cli.marks import Mark
from meshtls.cli.probing import Probed, probed
from meshtls.clock import Clock
from meshtls.errors import ConfigError, LocalIdentityError
from meshtls.observe.process_name import ProcessKind
from meshtls.registration import server_id
from meshtls.svid.x509 import X509Svid

__all__ = ["agent_checks", "loaded_agent", "probe_finding"]


def loaded_agent(file: Path) -> Loaded[AgentConfig]:
    return loaded("agent", file, load_config)


async def agent_checks(file: Loaded[AgentConfig], clock: Clock) -> Checks:
    """The agent that this file configures, and the server that it connects to."""
    for finding in file.findings:
        yield finding
    config = file.config
    if config is None:
        return
    running = await running_process(config.admin, config.process)
    for finding in mismatch_findings(running, "the agent"):
        yield finding
    serves = socket_finding(config.endpoint.socket_path, "the agent").mark is Mark.PASSED
    runs, kept = running.runs or serves, None
    if config.data_dir is not None:
        private = private_finding(config.data_dir, "the data directory")
        if private is not None:
            yield private
        room = room_finding(_existing(config.data_dir))
        if room is not None:
            yield room
        found, kept = _kept(config.data_dir, config, runs=runs)
        yield found
        if kept is not None:
            yield rotation_finding(kept[0], clock.now())
    bundle = kept[1] if kept is not None else config.bundle
    server = config.server
    for port in (server.port, server.attest_port):
        wanted = server_id(config.trust_domain)
        yield await peer_finding(Address(server.host, port), wanted, BundleSet([bundle]), clock.now())
    health = Address(*config.endpoint.health) if config.endpoint.health else None
    if health is not None and (not runs or await in_use(health, running)):
        answered = await probed(health, config.process)
        yield probe_finding(health, config.process.kind, answered, (admin_notice(config.admin),))
    for name, theirs in running.versions:
        yield version_finding(f"the agent at {name}", theirs)
    listening = given(config.admin, {"health": health, "metrics.listen": config.metrics})
    if runs:
        async for finding in unused_findings(listening, running, "the agent"):
            yield finding
        for finding in silent_findings(config.admin, running):
            yield finding
    else:
        async for finding in free_findings(listening, "the agent"):
            yield finding


def _existing(directory: Path) -> Path:
    """It, or the nearest directory above it that is there: what is made below is on the same disk."""
    whole = directory.absolute()
    return next((one for one in (whole, *whole.parents) if one.is_dir()), whole)


def _kept(directory: Path, config: AgentConfig, *, runs: bool) -> tuple[Finding, tuple[X509Svid, TrustBundle] | None]:
    claim = Claim("the agent's own SVID can be read", "the agent's own SVID can't be read")
    missing = claim._replace(broken="the agent has no SVID of its own")
    try:
        kept = NodeStore(directory).load(config.trust_domain)
    except (ConfigError, LocalIdentityError) as error:
        return failed(claim, str(error), "correct that, or delete the file and attest again"), None
    except OSError as error:
        return failed(claim, f"{directory}: {error.strerror}", "run the check as the agent's user"), None
    if kept is None:
        if runs:
            return warning(
                claim._replace(broken="the agent runs, and has not saved its SVID"),
                f"there is none in {directory.absolute()}",
                "see the agent's log for why it could not be saved; the next start has to attest again",
            ), None
        if config.proof is not None:
            return warning(missing, "there is none yet", "the agent attests at its first start"), None
        return failed(
            missing, "there is none, and no proof to attest with", "give it a token: `meshtls token generate`"
        ), None
    return passed(claim, str(kept[0].spiffe_id)), kept


def probe_finding(address: Address, kind: ProcessKind, answered: Probed, told: Iterable[str] = ()) -> Finding:
    """What the probe endpoint there says, but for what the checks of the file have ``told`` already."""
    who = kind.value
    claim = Claim(
        f"the {who} is ready, by its probes on {address}", f"the {who} is not ready, by its probes on {address}"
    )
    state = answered.state
    text = state.text
    for one in filter(None, told):
        text = f"; {text}; ".replace(f"; {one}; ", "; ").removeprefix("; ").removesuffix("; ")
    if answered.is_other:
        advice = f"`ss -ltnp 'sport = :{address.port}'` shows which; stop it, restart the {who}, or correct health"
        return failed(claim, text, advice)
    if not state.ready:
        return failed(claim, text, f"start the {who}, or see its log")
    if text:
        warned = claim._replace(broken=f"the {who} is ready, and warns, by its probes on {address}")
        return warning(warned, text, f"see the {who}'s log")
    return passed(claim)
