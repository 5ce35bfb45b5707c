"""``meshtls ca``: a CA for the processes of this machine, over a Unix socket. It is to become the agent."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import click

from meshtls.agent.ca_service import serve_ca
from meshtls.ca.authority import Authority
from meshtls.ca.keys.disk import DiskKeys
from meshtls.cli.ca_config import CaConfig, load_ca_config
from meshtls.cli.options import config_option, log_to_stderr
from meshtls.cli.publish import publish
from meshtls.cli.signals import stop_signal
from meshtls.clock import SystemClock

__all__ = ["ca"]


@click.group()
def ca() -> None:
    """The CA that gives each local uid its identity."""


@ca.command()
@config_option
def serve(config: Path) -> None:
    """Serve until SIGTERM or SIGINT."""
    log_to_stderr()
    asyncio.run(_serve(load_ca_config(config)))


@ca.command()
@config_option
def healthcheck(config: Path) -> None:
    """Ask whether a CA answers on the socket of this file."""
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
    authority = Authority.create(config.trust_domain, SystemClock(), svid_ttl=config.svid_ttl, keys=keys)
    try:
        if config.bundle_file:
            publish(config.bundle_file, authority.bundle.to_pem())
        with stop_signal() as stopped:
            async with serve_ca(authority, config.socket, config.identities):
                click.echo(f"serving: {authority!r} on {config.socket}", err=True)
                await stopped.wait()
    finally:
        authority.close()
