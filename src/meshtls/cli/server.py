"""``meshtls server``: run the CA server, check its file, ask a running one for its health.

Modules that need the extra ``server`` are imported when a verb runs, so that its help works without the extra.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshtls.cli.access import ServerAccess
from meshtls.cli.options import config_option, output_option
from meshtls.cli.output import Output
from meshtls.cli.serving import keep_reloading, log_as_configured, run_until_stopped, tell_health, tell_valid
from meshtls.config.keys import duration_text
from meshtls.errors import LocalIdentityError
from meshtls.observe.readiness import Readiness
from meshtls.reloading import hangup_signal

if TYPE_CHECKING:
    from meshtls.server.settings import ServerConfig
    from meshtls.server.store.migrate import SchemaVersion

__all__ = ["server"]


@click.group()
def server() -> None:
    """The CA server: it registers workloads, attests nodes, and signs."""


@server.command()
@config_option
@output_option
def run(config: Path, out: Output) -> None:
    """Serve until SIGTERM or SIGINT. The file is YAML, or a server.conf of SPIRE. SIGHUP reloads it."""
    from meshtls.server.config import load_config

    loaded = load_config(config)
    log_as_configured(loaded)
    asyncio.run(run_until_stopped(_serve(config, loaded, out), "serve"))


@server.command()
@config_option
@output_option
def validate(config: Path, out: Output) -> None:
    """Read the file and the files that it names, and print what it configures, or everything that is wrong with it.

    Nothing is created.
    """
    from meshtls.server.config import load_config
    from meshtls.server.startup import datastore_version, node_roots

    loaded = load_config(config)
    roots, schema = len(node_roots(loaded.x509pop)), asyncio.run(datastore_version(loaded))
    # The data store has no schema before the first start, and may have one of an older version.
    found = {"node_authorities": roots, "schema": schema.present, "wanted_schema": schema.wanted}
    makes = f"server of {loaded.trust_domain}"
    tell_valid(out, config, makes, _does(loaded, roots, schema), loaded.notices, _settings(loaded) | found)


@server.command()
@config_option
@output_option
def healthcheck(config: Path, out: Output) -> int:
    """Ask the server that runs with this file whether it is ready."""
    from meshtls.server.config import load_config

    loaded = load_config(config)
    access = ServerAccess(loaded.socket_path, of_file=True)
    try:
        health = access.ask(lambda api: api.health())
    except LocalIdentityError as error:
        return tell_health(out, Readiness(False, str(error)))
    if mismatch := loaded.process.mismatch(health.process_at(loaded.socket_path), f"the socket {loaded.socket_path}"):
        return tell_health(out, Readiness(False, mismatch))
    return tell_health(out, Readiness(health.ready, health.waiting_for).telling(*health.troubles))


async def _serve(file: Path, loaded: ServerConfig, out: Output) -> None:
    from meshtls.server.config import load_config
    from meshtls.server.run import running_server

    with hangup_signal() as hangup:
        async with running_server(loaded) as running:
            address, attest = (f"{host}:{port}" for host, port in (running.address, running.attest_address))
            record = {
                "event": "serving",
                "trust_domain": str(loaded.trust_domain),
                "server_id": running.server_id,
                "address": address,
                "attest_address": attest,
                "socket": str(running.socket_path),
                "metrics": str(running.metrics) if running.metrics else None,
            }
            words = f"{address}, new nodes on {attest}, administrators on {running.socket_path}"
            words += f", metrics on {running.metrics}" if running.metrics else ""
            out.event(record, f"serving: server of {loaded.trust_domain} on {words}")
            roots = loaded.x509pop.ca_bundles if loaded.x509pop else ()
            await keep_reloading((file, *roots), lambda: load_config(file), running.reload, hangup)


def _does(config: ServerConfig, roots: int, schema: SchemaVersion) -> Iterator[str]:
    attestors = ["join token"] * config.join_token
    attestors += [f"certificate (x509pop, {roots} CAs)"] * bool(config.x509pop)
    yield f"serves agents and administrators on {config.bind_address}:{config.bind_port}, over mutual TLS"
    yield f"attests new nodes on port {config.attest_port}, by {' or '.join(attestors) or 'nothing: none can attest'}"
    yield f"serves local administrators on {config.socket_path}"
    if config.log_listen:
        yield f"serves the transparency log on {config.log_listen}, over HTTP"
    for witness in config.log_witnesses:
        yield f"has the transparency log cosigned by the witness at {witness.url}"
    if config.revocation_listen:
        named = f", and names {config.revocation_url} in certificates" if config.revocation_url else ""
        yield f"serves CRLs and OCSP on {config.revocation_listen}, over HTTP{named}"
    if config.metrics:
        yield f"answers scrapes of metrics on {config.metrics}"
    x509, jwt, agents = config.default_x509_svid_ttl, config.default_jwt_svid_ttl, config.agent_ttl
    yield (
        f"signs X509-SVIDs of {duration_text(x509)}, JWT-SVIDs of {duration_text(jwt)} and agents' SVIDs of"
        f" {duration_text(agents)}, with an intermediate CA of {duration_text(config.ca_ttl)}"
    )
    if token := config.token:
        others = ["intermediates'"] * token.intermediates + ["JWT"] * token.jwt
        yield (
            f"keeps its roots' keys{''.join(f' and {one} keys' for one in others)} in the token {token.label} of"
            f" {token.module}, and what else it has to keep in {config.keys_dir}"
        )
    else:
        memory = "keeps its CA's keys in memory: each start creates a new CA"
        yield memory if config.key_place.value == "memory" else f"keeps its CA's keys in {config.keys_dir}"
    present = f"schema {schema.present}" if schema.present else "created at the first start"
    brought = f", migrated to {schema.wanted} at the start" if schema.present not in (None, schema.wanted) else ""
    yield f"keeps entries in {config.datastore.render_as_string(hide_password=True)} ({present}{brought})"
    if endpoint := config.bundle_endpoint:
        presents = f"the certificate of {endpoint.certificate}" if endpoint.certificate else "its own X509-SVID"
        yield f"serves its bundle on https://{endpoint.listen}/, with {presents}"
    for relation in (one.relation for one in config.federates_with):
        yield f"fetches the bundle of {relation.trust_domain} from {relation.url} ({relation.profile.value})"
    yield f"logs at level {config.log_level}"


def _settings(config: ServerConfig) -> dict[str, object]:
    attestors = ["join_token"] * config.join_token + ["x509pop"] * bool(config.x509pop)
    return {
        "trust_domain": str(config.trust_domain),
        "address": f"{config.bind_address}:{config.bind_port}",
        "attest_port": config.attest_port,
        "socket": str(config.socket_path),
        "transparency_log": str(config.log_listen or ""),
        "witnesses": [one.url for one in config.log_witnesses],
        "revocation": str(config.revocation_listen or ""),
        "revocation_url": config.revocation_url,
        "data_dir": str(config.data_dir),
        "datastore": config.datastore.render_as_string(hide_password=True),
        "keys": config.key_place.value,
        "node_attestors": attestors,
        "ca_ttl": int(config.ca_ttl.total_seconds()),
        "agent_ttl": int(config.agent_ttl.total_seconds()),
        "default_x509_svid_ttl": int(config.default_x509_svid_ttl.total_seconds()),
        "default_jwt_svid_ttl": int(config.default_jwt_svid_ttl.total_seconds()),
        "bundle_endpoint": f"https://{config.bundle_endpoint.listen}/" if config.bundle_endpoint else None,
        "federates_with": [str(one.relation.trust_domain) for one in config.federates_with],
        "metrics": str(config.metrics) if config.metrics else None,
        "log_level": config.log_level,
        "notices": list(config.notices),
    }
