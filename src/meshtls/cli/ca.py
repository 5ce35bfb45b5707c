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
from meshtls.cli.options import config_option, log_to_stderr
from meshtls.cli.publish import publish
from meshtls.cli.signals import stop_signal
from meshtls.clock import SystemClock

__all__ = ["ca"]


@click.group()
def ca() -> None:
    """A CA that gives each local uid its identity, by the Workload API and SDS."""


@ca.command()
@config_option
def serve(config: Path) -> None:
    """Serve the Workload API and SDS until SIGTERM or SIGINT."""
    log_to_stderr()
    asyncio.run(_serve(load_ca_config(config)))


@ca.command()
@config_option
def healthcheck(config: Path) -> None:
    """Ask whether one answers on the socket of this file."""
    place = load_ca_config(config).socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(3)
        try:
            probe.connect(str(place))
        except OSError as error:
            raise click.ClickException(f"not ready: {place}: {error.strerror or error}") from error
    click.echo("ready")


async def _serve(config: CaConfig) -> None:
    keys = DiskKeys(config.data_dir) if config.data_dir else None
    clock = SystemClock()
    authority = Authority.create(config.trust_domain, clock, svid_ttl=config.svid_ttl, keys=keys)
    try:
        if config.bundle_file:
            publish(config.bundle_file, authority.bundle.to_pem())
        with stop_signal() as stopped:
            async with Agent(Endpoint(config.socket), EmbeddedUpstream(authority, clock, _entries(config)), clock):
                click.echo(f"serving: {authority!r} on {config.socket}", err=True)
                await stopped.wait()
    finally:
        authority.close()


def _entries(config: CaConfig) -> list[Entry]:
    here = agent_id(config.trust_domain, "local", "ca")
    return [
        Entry(spiffe_id=spiffe_id, parent_id=here, selectors=(Selector("unix", f"uid:{uid}"),))
        for uid, spiffe_id in config.identities.items()
    ]
