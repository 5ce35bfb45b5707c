"""``meshtls agent``: run a node's agent, check its file, ask a running one for its health."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import click
from grpclib import Status

from meshtls.address import Address
from meshtls.agent.config import AgentConfig, load_config
from meshtls.agent.node.proof import JoinToken
from meshtls.agent.node.store import NodeStore
from meshtls.agent.run import running_agent
from meshtls.cli.options import config_option, output_option, workload_address
from meshtls.cli.output import Output
from meshtls.cli.probing import probed
from meshtls.cli.serving import (
    keep_reloading,
    log_as_configured,
    run_until_stopped,
    tell_health,
    tell_valid,
)
from meshtls.errors import ConfigError
from meshtls.observe.readiness import Readiness
from meshtls.reloading import hangup_signal
from meshtls.workload.background import in_background
from meshtls.workload.client import WorkloadApiClient
from meshtls.workload.failures import WorkloadApiError

__all__ = ["agent"]

_SECONDS = 3.0


@click.group()
def agent() -> None:
    """A node's agent: it attests to the server and serves the Workload API and Envoy's SDS."""


@agent.command()
@config_option
@output_option
def run(config: Path, out: Output) -> None:
    """Serve until SIGTERM or SIGINT, even while the server does not answer. SIGHUP reloads the file."""
    loaded = load_config(config)
    log_as_configured(loaded)
    asyncio.run(run_until_stopped(_serve(config, loaded, out), "serve"))


@agent.command()
@config_option
@output_option
def validate(config: Path, out: Output) -> None:
    """Read the file and the files that it names, and print what it configures, or everything that is wrong with it."""
    loaded = load_config(config)
    agent_id = ""
    if loaded.data_dir is not None:
        try:
            kept = NodeStore(loaded.data_dir).load(loaded.trust_domain)
        except OSError as error:
            raise ConfigError(
                f"data directory {loaded.data_dir}: wanted a directory to use: {error.strerror}"
            ) from error
        agent_id = str(kept[0].spiffe_id) if kept else ""
    makes = f"agent of {loaded.trust_domain}"
    record = _settings(loaded) | {"agent_id": agent_id}
    tell_valid(out, config, makes, _does(loaded, agent_id), loaded.notices, record)


@agent.command()
@config_option
@output_option
def healthcheck(config: Path, out: Output) -> int:
    """Ask the agent that runs with this file whether it is ready."""
    return tell_health(out, asyncio.run(_readiness(load_config(config))))


async def _serve(file: Path, config: AgentConfig, out: Output) -> None:
    with hangup_signal() as hangup:
        async with running_agent(config) as running:
            reloading = keep_reloading((file, *config.files), lambda: load_config(file), running.reload, hangup)
            async with in_background(reloading, "reload"):
                agent = running.agent
                record = {
                    "event": "serving",
                    "address": agent.address,
                    "health_port": agent.health_port,
                    "data_dir": str(config.data_dir or ""),
                    "metrics": str(running.metrics) if running.metrics else None,
                }
                scrapes = f", metrics on {running.metrics}" if running.metrics else ""
                out.event(record, f"serving: Workload API and SDS on {agent.address}{scrapes}; {_kept(config)}")
                await agent.ready()
                entries = len(agent.identities.cache.entries)
                out.event({"event": "ready", "entries": entries}, f"ready: {entries} entries")
                await asyncio.get_running_loop().create_future()


async def _readiness(config: AgentConfig) -> Readiness:
    if config.endpoint.health:
        return (await probed(Address(*config.endpoint.health), config.process)).state
    async with WorkloadApiClient(workload_address(str(config.endpoint.socket_path)), timeout=_SECONDS) as client:
        try:
            await client.fetch_x509_context()
        except WorkloadApiError as error:
            # The agent knows its entries, and none of them matches the process of this check.
            return Readiness(True) if error.status is Status.PERMISSION_DENIED else Readiness(False, str(error))
    return Readiness(True)


def _kept(config: AgentConfig) -> str:
    if config.data_dir is None:
        return "its SVID is not stored: a restart attests again"
    return f"its SVID is stored in {config.data_dir}, for a restart"


def _does(config: AgentConfig, agent_id: str) -> Iterator[str]:
    yield f"serves the Workload API and SDS on {config.endpoint.socket_path}"
    yield f"attests its callers by {', '.join(config.endpoint.attestors) or 'nothing: no caller has a selector'}"
    roots = len(config.bundle.x509_authorities)
    yield (f"connects to the server {config.server}, and trusts {roots} X.509 authorit{'y' if roots == 1 else 'ies'}")
    if agent_id:
        yield f"is {agent_id}, by an earlier attestation"
    else:
        proof = "a join token" if isinstance(config.proof, JoinToken) else "a certificate (x509pop)"
        where = f", on the server's port {config.server.attest_port}"
        yield (
            f"attests by {proof}{where}"
            if config.proof
            else "can't attest: it has neither a proof nor the SVID of an earlier attestation"
        )
    yield _kept(config)
    if config.endpoint.health:
        yield f"answers probes on {Address(*config.endpoint.health)}"
    if config.metrics:
        yield f"answers scrapes of metrics on {config.metrics}"
    yield f"logs at level {config.log_level}"


def _settings(config: AgentConfig) -> dict[str, object]:
    proof = "join_token" if isinstance(config.proof, JoinToken) else "x509pop"
    return {
        "trust_domain": str(config.trust_domain),
        "server": str(config.server),
        "attest_port": config.server.attest_port,
        "socket": str(config.endpoint.socket_path),
        "workload_attestors": list(config.endpoint.attestors),
        "workload_size_limit": config.endpoint.size_limit,
        "node_attestation": proof if config.proof else "the SVID of an earlier one",
        "x509_authorities": len(config.bundle.x509_authorities),
        "data_dir": str(config.data_dir or ""),
        "health": str(Address(*config.endpoint.health)) if config.endpoint.health else "",
        "metrics": str(config.metrics) if config.metrics else None,
        "log_level": config.log_level,
        "notices": list(config.notices),
    }
