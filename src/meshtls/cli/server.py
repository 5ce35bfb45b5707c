"""``meshtls server``: run the CA server, look at its file, ask one that runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import click
from cryptography.x509 import Certificate

from meshtls.ca.store.migrate import SchemaVersion
from meshtls.cli.access import ServerAccess
from meshtls.cli.health import tell_health
from meshtls.cli.options import config_option, log_to_stderr, output_option
from meshtls.cli.output import Output
from meshtls.cli.signals import run_until_stopped
from meshtls.errors import LocalIdentityError
from meshtls.observe.readiness import Readiness
from meshtls.server.config import load_config
from meshtls.server.run import RunningServer, run_server
from meshtls.server.settings import ServerConfig
from meshtls.server.startup import datastore_version, node_roots

__all__ = ["server"]


@click.group()
def server() -> None:
    """The CA server: it registers workloads, attests nodes, and signs."""


@server.command()
@config_option
@output_option
def run(config: Path, out: Output) -> None:
    """Serve until SIGTERM or SIGINT. The file is YAML, or a server.conf of SPIRE's."""
    loaded = load_config(config)
    log_to_stderr(logging.getLevelNamesMapping()[loaded.log_level])
    serving = run_server(loaded, ready=lambda running: _tell_serving(loaded, running, out))
    asyncio.run(run_until_stopped(serving, "serve"))


@server.command()
@config_option
@output_option
def validate(config: Path, out: Output) -> None:
    """Read the file and what it names, and say what it configures or what is wrong with it. Nothing is made."""
    loaded = load_config(config)
    roots, schema = node_roots(loaded.x509pop), asyncio.run(datastore_version(loaded))
    out.record(_settings(loaded) | _found(roots, schema))


@server.command()
@config_option
@output_option
def healthcheck(config: Path, out: Output) -> int:
    """Ask the server of this file whether it is ready."""
    access = ServerAccess(load_config(config).socket_path, of_file=True)
    try:
        health = access.ask(lambda api: api.health())
    except LocalIdentityError as error:
        return tell_health(out, Readiness(False, str(error)))
    return tell_health(out, Readiness(health.ready, health.waiting_for))


def _tell_serving(config: ServerConfig, running: RunningServer, out: Output) -> None:
    address, attest = (f"{host}:{port}" for host, port in (running.address, running.attest_address))
    record = {
        "event": "serving",
        "trust_domain": str(config.trust_domain),
        "server_id": running.server_id,
        "address": address,
        "attest_address": attest,
        "socket": str(running.socket_path),
    }
    words = f"{address}, new nodes on {attest}, administrators on {running.socket_path}"
    out.event(record, f"serving: server of {config.trust_domain} on {words}")


def _found(roots: Sequence[Certificate], schema: SchemaVersion) -> dict[str, object]:
    """What is where the file says; a data store has no schema before the first start, and may have an older one."""
    return {"node_authorities": len(roots), "schema": schema.present, "wanted_schema": schema.wanted}


def _settings(config: ServerConfig) -> dict[str, object]:
    attestors = ["join_token"] * config.join_token + ["x509pop"] * bool(config.x509pop)
    return {
        "trust_domain": str(config.trust_domain),
        "address": f"{config.bind_address}:{config.bind_port}",
        "attest_port": config.attest_port,
        "socket": str(config.socket_path),
        "data_dir": str(config.data_dir),
        "datastore": config.datastore.render_as_string(hide_password=True),
        "keys": config.key_place.value,
        "node_attestors": attestors,
        "ca_ttl": int(config.ca_ttl.total_seconds()),
        "agent_ttl": int(config.agent_ttl.total_seconds()),
        "default_x509_svid_ttl": int(config.default_x509_svid_ttl.total_seconds()),
        "default_jwt_svid_ttl": int(config.default_jwt_svid_ttl.total_seconds()),
        "log_level": config.log_level,
        "notices": list(config.notices),
    }
