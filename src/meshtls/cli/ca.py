"""``meshtls ca``: a CA and its Workload API in one process, for the programs of one machine."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import click

from meshtls.agent.embedded import EmbeddedUpstream
from meshtls.agent.service import Agent, Endpoint
from meshtls.ca.authority import Authority
from meshtls.ca.keys.disk import DiskKeys
from meshtls.ca.registration import Entry, Selector, agent_id
from meshtls.cli.ca_config import CaConfig, load_ca_config
from meshtls.cli.health import tell_health
from meshtls.cli.options import config_option, log_to_stderr, output_option
from meshtls.cli.output import Output, tell
from meshtls.cli.publish import publish
from meshtls.cli.signals import stop_signal
from meshtls.clock import SystemClock
from meshtls.observe.readiness import Readiness

__all__ = ["ca"]


@click.group()
def ca() -> None:
    """A CA that gives each local uid its identity, by the Workload API and SDS."""


@ca.command()
@config_option
@output_option
def serve(config: Path, out: Output) -> None:
    """Serve the Workload API and SDS until SIGTERM or SIGINT."""
    log_to_stderr()
    asyncio.run(_serve(load_ca_config(config), out))


@ca.command()
@config_option
@output_option
def healthcheck(config: Path, out: Output) -> int:
    """Ask whether one answers on the socket of this file."""
    return tell_health(out, _readiness(load_ca_config(config).socket))


def _readiness(place: Path) -> Readiness:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(3)
        try:
            probe.connect(str(place))
        except OSError as error:
            return Readiness(False, f"{place}: {error.strerror or error}")
    return Readiness(True)


async def _serve(config: CaConfig, out: Output) -> None:
    keys = DiskKeys(config.data_dir) if config.data_dir else None
    clock = SystemClock()
    authority = Authority.create(config.trust_domain, clock, svid_ttl=config.svid_ttl, keys=keys)
    try:
        if config.bundle_file:
            publish(config.bundle_file, authority.bundle.to_pem())
        with stop_signal() as stopped:
            async with Agent(Endpoint(config.socket), EmbeddedUpstream(authority, clock, _entries(config)), clock):
                _tell_serving(config, authority, out)
                await stopped.wait()
    finally:
        authority.close()


def _tell_serving(config: CaConfig, authority: Authority, out: Output) -> None:
    if not out.as_json:
        tell(f"serving: {authority!r} on {config.socket}", err=True)
        return
    record = {"event": "serving", "trust_domain": str(config.trust_domain), "socket": str(config.socket)}
    out.event(record | {"identities": {str(uid): str(name) for uid, name in config.identities.items()}}, "")


def _entries(config: CaConfig) -> list[Entry]:
    here = agent_id(config.trust_domain, "local", "ca")
    return [
        Entry(spiffe_id=spiffe_id, parent_id=here, selectors=(Selector("unix", f"uid:{uid}"),))
        for uid, spiffe_id in config.identities.items()
    ]
