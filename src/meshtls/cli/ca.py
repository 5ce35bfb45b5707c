"""``meshtls ca``: a CA and its Workload API in one process, for the users of one machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import click

from meshtls.agent.embedded import EmbeddedUpstream
from meshtls.agent.service import Agent, Endpoint
from meshtls.ca.authority import Authority
from meshtls.ca.keys.disk import DiskKeys
from meshtls.cli.ca_config import CaConfig, load_ca_config, reloaded
from meshtls.cli.ca_offline import csr, install, root, sign
from meshtls.cli.options import config_option, output_option
from meshtls.cli.output import Output
from meshtls.cli.serving import (
    keep_reloading,
    log_as_configured,
    stop_signal,
    tell_health,
    tell_serving_line,
    tell_valid,
)
from meshtls.cli.svid_files import publish
from meshtls.clock import SystemClock
from meshtls.config.changes import Changes
from meshtls.config.keys import duration_text
from meshtls.logs import logger
from meshtls.observe.readiness import Readiness
from meshtls.registration import Entry, Selector, agent_id
from meshtls.reloading import hangup_signal
from meshtls.workload.background import in_background

__all__ = ["ca"]

log = logger("meshtls.ca")


@click.group()
def ca() -> None:
    """A CA that issues an identity to each local uid, over the Workload API and SDS; and CAs below an offline root."""


@ca.command()
@config_option
@output_option
def serve(config: Path, out: Output) -> None:
    """Serve the Workload API and SDS until SIGTERM or SIGINT. SIGHUP reloads the file."""
    loaded = load_ca_config(config)
    log_as_configured(loaded)
    for notice in loaded.notices:
        log.warning("%s", notice)
    asyncio.run(_serve(config, loaded, out))


@ca.command()
@config_option
@output_option
def validate(config: Path, out: Output) -> None:
    """Read the file, and print what it configures, or everything that is wrong with it. Nothing is created."""
    loaded = load_ca_config(config)
    record = {
        "trust_domain": str(loaded.trust_domain),
        "socket": str(loaded.socket_path),
        "identities": {str(uid): str(name) for uid, name in loaded.identities.items()},
        "default_x509_svid_ttl": int(loaded.x509_svid_ttl.total_seconds()),
        "default_jwt_svid_ttl": int(loaded.jwt_svid_ttl.total_seconds()),
        "data_dir": str(loaded.data_dir or ""),
        "trust_bundle_path": str(loaded.trust_bundle_path or ""),
        "log_level": loaded.log_level,
        "notices": list(loaded.notices),
    }
    tell_valid(out, config, f"CA of {loaded.trust_domain}", _does(loaded), loaded.notices, record)


@ca.command()
@config_option
@output_option
def healthcheck(config: Path, out: Output) -> int:
    """Check whether a CA accepts connections on the socket of this file."""
    place = load_ca_config(config).socket_path
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(3)
        try:
            probe.connect(str(place))
        except OSError as error:
            return tell_health(out, Readiness(False, f"{place}: {error.strerror or error}"))
    return tell_health(out, Readiness(True))


for _verb in (root, csr, sign, install):
    ca.add_command(_verb)


def _does(config: CaConfig) -> Iterator[str]:
    yield f"serves the Workload API and SDS on {config.socket_path}"
    for uid, spiffe_id in config.identities.items():
        yield f"issues {spiffe_id} to uid {uid}"
    x509, jwt = duration_text(config.x509_svid_ttl), duration_text(config.jwt_svid_ttl)
    yield f"signs X509-SVIDs of {x509} and JWT-SVIDs of {jwt}"
    yield (
        f"keeps its keys in {config.data_dir}"
        if config.data_dir
        else "keeps its keys in memory: each start creates a new CA"
    )
    if config.trust_bundle_path:
        yield f"writes its trust bundle to {config.trust_bundle_path}"
    yield f"logs at level {config.log_level}"


async def _serve(file: Path, config: CaConfig, out: Output) -> None:
    keys = DiskKeys(config.data_dir) if config.data_dir else None
    clock = SystemClock()
    authority = Authority.create(config.trust_domain, clock, svid_ttl=config.x509_svid_ttl, keys=keys)
    try:
        if config.trust_bundle_path:
            publish(config.trust_bundle_path, authority.bundle.to_pem())
        with stop_signal() as stopped, hangup_signal() as hangup:
            upstream = EmbeddedUpstream(authority, clock, _entries(config), jwt_ttl=config.jwt_svid_ttl)
            running = config

            def reload(wanted: CaConfig) -> Changes:
                nonlocal running
                running, changes = reloaded(running, wanted)
                present = {entry.id: entry for entry in upstream.entries}
                for entry in _entries(running):
                    if present.pop(entry.id, None) != entry:
                        upstream.put_entry(entry)
                for removed in present:
                    upstream.remove_entry(removed)
                return changes

            reloading = keep_reloading([file], lambda: load_ca_config(file), reload, hangup)
            async with (
                Agent(Endpoint(config.socket_path), upstream, clock),
                in_background(reloading, "reload"),
            ):
                if out.as_json:
                    out.event(
                        {
                            "event": "serving",
                            "trust_domain": str(config.trust_domain),
                            "socket": str(config.socket_path),
                            "identities": {str(uid): str(name) for uid, name in config.identities.items()},
                        },
                        "",
                    )
                else:
                    (root,) = authority.bundle.x509_authorities
                    until = f"root valid until {root.not_valid_after_utc:%Y-%m-%d}"
                    tell_serving_line(f"serving: CA of {config.trust_domain} on {config.socket_path}; {until}", config)
                await stopped.wait()
    finally:
        authority.close()


def _entries(config: CaConfig) -> list[Entry]:
    parent = agent_id(config.trust_domain, "local", "ca")
    return [
        Entry(
            id=f"uid:{uid}",
            spiffe_id=spiffe_id,
            parent_id=parent,
            selectors=(Selector("unix", f"uid:{uid}"),),
        )
        for uid, spiffe_id in config.identities.items()
    ]
