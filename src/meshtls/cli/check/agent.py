"""An agent, by its file: its directory, its SVID, its server, its probes."""

from __future__ import annotations

from pathlib import Path

from meshtls.address import Address
from meshtls.agent.config import AgentConfig, load_config
from meshtls.agent.node.store import NodeStore
from meshtls.bundle import BundleSet, TrustBundle
from meshtls.cli.check.files import Loaded, loaded
from meshtls.cli.check.finding import Checks, Finding, failed, passed, warning
from meshtls.cli.check.peers import peer_finding
from meshtls.cli.check.sockets import private_finding
from meshtls.cli.check.versions import running_versions
from meshtls.cli.check.workload import rotation_finding
from meshtls.cli.serving import readiness_at
from meshtls.clock import Clock
from meshtls.errors import ConfigError, LocalIdentityError
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
    kept = None
    if config.data_dir is not None:
        private = private_finding(config.data_dir, "the data directory")
        if private is not None:
            yield private
        found, kept = _kept(config.data_dir, config)
        yield found
        if kept is not None:
            yield rotation_finding(kept[0], clock.now())
    bundle = kept[1] if kept is not None else config.bundle
    server = config.server
    for port in (server.port, server.attest_port):
        wanted = server_id(config.trust_domain)
        yield await peer_finding(Address(server.host, port), wanted, BundleSet([bundle]), clock.now())
    if config.endpoint.health:
        yield await probe_finding(Address(*config.endpoint.health), "agent")
    async for finding in running_versions(config.admin, "the agent"):
        yield finding


def _kept(directory: Path, config: AgentConfig) -> tuple[Finding, tuple[X509Svid, TrustBundle] | None]:
    check = "the agent's own SVID can be read"
    try:
        kept = NodeStore(directory).load(config.trust_domain)
    except (ConfigError, LocalIdentityError) as error:
        return failed(check, str(error), "correct that, or delete the file and attest again"), None
    except OSError as error:
        return failed(check, f"{directory}: {error.strerror}", "run the check as the agent's user"), None
    if kept is None:
        if config.proof is not None:
            return warning(check, "there is none yet", "the agent attests at its first start"), None
        return failed(
            check, "there is none, and no proof to attest with", "give it a token: `meshtls token generate`"
        ), None
    return passed(check, str(kept[0].spiffe_id)), kept


async def probe_finding(address: Address, who: str) -> Finding:
    """What the probe endpoint there says."""
    check = f"the {who} is ready, by its probes on {address}"
    state = await readiness_at(address, "/ready")
    if not state.ready:
        return failed(check, state.text, f"start the {who}, or see its log")
    return warning(check, state.text, f"see the {who}'s log") if state.text else passed(check)
