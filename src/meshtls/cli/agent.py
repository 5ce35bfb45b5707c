"""``meshtls agent``: run a node's agent, look at its file, ask one that runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import click
from grpclib import Status

from meshtls.address import Address
from meshtls.agent.config import AgentConfig, load_config
from meshtls.agent.node.proof import JoinToken
from meshtls.agent.node.store import NodeStore
from meshtls.agent.run import running_agent
from meshtls.agent.service import Agent
from meshtls.cli.health import readiness_at, tell_health
from meshtls.cli.options import config_option, log_to_stderr, output_option
from meshtls.cli.output import Output
from meshtls.cli.reload import keep_reloading
from meshtls.cli.signals import run_until_stopped
from meshtls.cli.summary import summary
from meshtls.cli.workload_socket import workload_address
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
    """Serve until SIGTERM or SIGINT, whether or not the server answers yet. SIGHUP has the file read again."""
    loaded = load_config(config)
    log_to_stderr(logging.getLevelNamesMapping()[loaded.log_level])
    asyncio.run(run_until_stopped(_serve(config, loaded, out), "serve"))


@agent.command()
@config_option
@output_option
def validate(config: Path, out: Output) -> None:
    """Read the file and what it names, and say what it makes or all that is wrong with it."""
    loaded = load_config(config)
    earlier = _earlier(loaded)
    told = summary(config, f"agent of {loaded.trust_domain}", tuple(_does(loaded, earlier)), loaded.notices)
    out.record(_settings(loaded) | {"agent_id": earlier}, told)


@agent.command()
@config_option
@output_option
def healthcheck(config: Path, out: Output) -> int:
    """Ask the agent of this file whether it is ready."""
    return tell_health(out, asyncio.run(_readiness(load_config(config))))


async def _serve(file: Path, config: AgentConfig, out: Output) -> None:
    with hangup_signal() as hangup:
        async with running_agent(config) as running:
            reloading = keep_reloading((file, *config.files), lambda: load_config(file), running.reload, hangup)
            async with in_background(reloading, "reload"):
                await _tell(config, running.agent, out)
                await asyncio.get_running_loop().create_future()


async def _tell(config: AgentConfig, running: Agent, out: Output) -> None:
    """That it serves, and once it has heard of the server, that it is ready."""
    record = {
        "event": "serving",
        "address": running.address,
        "health_port": running.health_port,
        "data_dir": str(config.data_dir or ""),
    }
    out.event(record, f"serving: Workload API and SDS on {running.address}; {_kept(config)}")
    await running.ready()
    entries = len(running.identities.cache.entries)
    out.event({"event": "ready", "entries": entries}, f"ready: {entries} entries")


async def _readiness(config: AgentConfig) -> Readiness:
    if config.endpoint.health:
        return await readiness_at(Address(*config.endpoint.health), "/ready")
    async with WorkloadApiClient(workload_address(str(config.endpoint.socket_path)), timeout=_SECONDS) as client:
        try:
            await client.fetch_x509_context()
        except WorkloadApiError as error:
            # It knows its entries, and that none of them is for whoever runs this check.
            return Readiness(True) if error.status is Status.PERMISSION_DENIED else Readiness(False, str(error))
    return Readiness(True)


def _earlier(config: AgentConfig) -> str:
    """Whom the SVID of an earlier attestation is of, if there is one. Raises ConfigError where it can't be used."""
    if config.data_dir is None:
        return ""
    try:
        kept = NodeStore(config.data_dir).load(config.trust_domain)
    except OSError as error:
        raise ConfigError(f"data directory {config.data_dir}: wanted a directory to use: {error.strerror}") from error
    return str(kept[0].spiffe_id) if kept else ""


def _kept(config: AgentConfig) -> str:
    if config.data_dir is None:
        return "its SVID is kept nowhere: a restart attests anew"
    return f"its SVID is kept in {config.data_dir}, for a restart"


def _does(config: AgentConfig, earlier: str) -> Iterator[str]:
    yield f"serves the Workload API and SDS on {config.endpoint.socket_path}"
    yield f"knows its callers by {', '.join(config.endpoint.attestors) or 'nothing: none has a selector'}"
    roots = len(config.bundle.x509_authorities)
    yield (
        f"asks the server {config.server}, which it believes by {roots} X.509 authorit{'y' if roots == 1 else 'ies'}"
    )
    if earlier:
        yield f"is {earlier}, as attested before"
    else:
        proof = "a join token" if isinstance(config.proof, JoinToken) else "a certificate (x509pop)"
        where = f", on the server's port {config.server.attest_port}"
        yield (
            f"attests by {proof}{where}" if config.proof else "can't attest, and has no SVID of an earlier attestation"
        )
    yield _kept(config)
    if config.endpoint.health:
        yield f"answers probes on {Address(*config.endpoint.health)}"
    yield f"logs from {config.log_level} on"


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
        "log_level": config.log_level,
        "notices": list(config.notices),
    }
