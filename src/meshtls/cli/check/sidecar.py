"""A sidecar, by its file: what it configures, its policies, its ports."""

from __future__ import annotations

import asyncio
from pathlib import Path

from meshtls.cli.check.agent import probe_finding
from meshtls.cli.check.connections import connection_checks
from meshtls.cli.check.files import Loaded, loaded
from meshtls.cli.check.finding import Checks, warning
from meshtls.cli.check.peers import free_finding, peer_finding
from meshtls.cli.check.sockets import is_free
from meshtls.cli.check.versions import running_versions
from meshtls.cli.check.workload import Seen
from meshtls.cli.marks import Mark
from meshtls.clock import Clock
from meshtls.sidecar.config import load_config
from meshtls.sidecar.services import check_services
from meshtls.sidecar.settings import Mode, SidecarConfig
from meshtls.svid.trust import Trust

__all__ = ["loaded_sidecar", "sidecar_checks", "wanted_descriptors"]


def loaded_sidecar(file: Path) -> Loaded[SidecarConfig]:
    return loaded(
        "sidecar",
        file,
        _load,
        reads="and its policies are valid",
        as_meant="nothing in the file or its policies is suspicious",
    )


def _load(file: Path) -> SidecarConfig:
    config = load_config(file)
    check_services(config)
    return config


def wanted_descriptors(config: SidecarConfig) -> int:
    """Two for each connection and queued handshake of one process, and some beside."""
    return 2 * (config.limits.connections + config.limits.unproven) + 64


async def sidecar_checks(file: Loaded[SidecarConfig], clock: Clock, seen: Seen) -> Checks:
    """The sidecar that this file configures. Which ports it should have depends on whether it runs."""
    for finding in file.findings:
        yield finding
    config = file.config
    if config is None:
        return
    if config.health is None:
        yield warning("it answers probes", "the file has no health", "add health, such as 127.0.0.1:15021")
        return
    probes = await probe_finding(config.health, "sidecar")
    yield probes
    # One that is not ready runs, too.
    runs = probes.mark is not Mark.FAILED or bool(await asyncio.to_thread(is_free, config.health))
    async for finding in running_versions(config.admin, "the sidecar"):
        yield finding
    if runs and config.admin is not None and config.admin.socket is not None:
        async for finding in connection_checks(config.admin.socket, clock.now()):
            yield finding
    context = seen.context
    trust = Trust(1, context.bundles, context.revocations) if context is not None else None
    for listener in config.inbound:
        if not listener.listen.port:
            continue  # a free one, which only the sidecar's own words name
        if not runs:
            yield await free_finding(listener.listen, "the sidecar")
        elif listener.mode is not Mode.DISABLE and trust is not None:
            yield await peer_finding(listener.listen, config.spiffe_id, trust, clock.now())
    for outbound in config.outbound:
        if not runs and outbound.listen.port:
            yield await free_finding(outbound.listen, "the sidecar")
        if trust is not None and outbound.proves_peer:
            yield await peer_finding(outbound.to, outbound.peer, trust, clock.now())
