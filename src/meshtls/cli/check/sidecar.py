"""A sidecar, by its file: its policies, its probes, its ports and app, the peers that it connects to."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

from meshtls.address import Address
from meshtls.admin.serving import admin_notice
from meshtls.cli.check.agent import probe_finding
from meshtls.cli.check.connections import connection_checks
from meshtls.cli.check.files import Loaded, loaded
from meshtls.cli.check.finding import Checks, Claim, Finding, failed, passed, warning
from meshtls.cli.check.listeners import Listening, free_findings, given, in_use, mismatch_findings, unused_findings
from meshtls.cli.check.peers import balanced_peer_finding, peer_finding, reached, reached_finding
from meshtls.cli.check.running import running_process
from meshtls.cli.check.sockets import is_free
from meshtls.cli.check.versions import version_finding
from meshtls.cli.check.workload import Seen
from meshtls.cli.marks import Mark
from meshtls.cli.probing import probed
from meshtls.clock import Clock
from meshtls.config.document import read_text
from meshtls.policy.istio.model import Documents
from meshtls.sidecar.config import load_config, parse_config
from meshtls.sidecar.services import check_services
from meshtls.sidecar.settings import InboundConfig, Mode, SidecarConfig
from meshtls.svid.trust import Trust

__all__ = ["loaded_sidecar", "sidecar_checks", "wanted_descriptors"]

_WAITS = "waiting for "
_PROBES = Claim("it answers probes", "it answers no probes")
_RUNS = Claim("the sidecar runs", "the sidecar does not run")


def loaded_sidecar(file: Path) -> Loaded[SidecarConfig]:
    return loaded(
        "sidecar",
        file,
        _load,
        reads=Claim(f"{file} and its policies are valid", f"{file} or a policy that it names is not valid"),
        as_meant=Claim(
            "nothing in the file or its policies is suspicious", "something in the file or its policies is suspicious"
        ),
        in_part=_without_policies,
    )


def _load(file: Path) -> SidecarConfig:
    config = load_config(file)
    check_services(config)
    return config


def _without_policies(file: Path) -> SidecarConfig:
    """What can be checked though a policy, or a file that is named, can't be read."""
    return parse_config(read_text(file), str(file), lambda paths: Documents())


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
    context = seen.context
    trust = Trust(1, context.bundles, context.revocations) if context is not None else None
    running = await running_process(config.admin, config.process)
    for finding in mismatch_findings(running, "the sidecar"):
        yield finding
    answers = config.health is not None and await in_use(config.health, running)
    probes, is_other = await _probes(config, config.health) if answers and config.health else (None, False)
    # One that has no SVID yet answers probes, and has none of its listeners.
    is_early = probes is not None and probes.reason.startswith(_WAITS) and not await _is_any_taken(config)
    if is_early or running.runs or (probes is not None and probes.mark is not Mark.FAILED):
        runs = True
    elif answers and not is_other:  # one that is not ready runs, too; but another program may have the address
        runs = await _is_any_taken(config)
    else:
        runs = await _has_its_ports(config, trust, clock.now())
    if config.health is None:
        yield warning(_PROBES, "the file has no health", "add health, such as 127.0.0.1:15021")
        yield _runs_finding(config, runs=runs)
    elif probes is not None or not runs:
        yield probes or (await _probes(config, config.health))[0]
    for name, theirs in running.versions:
        yield version_finding(f"the sidecar at {name}", theirs)
    listening = [] if is_early else _listening(config)
    if runs:
        async for finding in unused_findings(listening, running, "the sidecar"):
            yield finding
    else:
        async for finding in free_findings(listening, "the sidecar"):
            yield finding
    if runs and config.admin is not None and config.admin.socket is not None and not running.mismatch:
        async for finding in connection_checks(config.admin.socket, clock.now(), file.path):
            yield finding
    for inbound in config.inbound:
        if runs and trust is not None and inbound.listen.port and await in_use(inbound.listen, running):
            async for finding in _answered(inbound, config, trust, clock.now()):
                yield finding
    async for finding in _reached(config):
        yield finding
    for outbound in config.outbound:
        if trust is not None and outbound.proves_peer:
            yield await peer_finding(outbound.to, outbound.peer, trust, clock.now())


async def _probes(config: SidecarConfig, health: Address) -> tuple[Finding, bool]:
    """What the probes say, and whether another process answered them."""
    answered = await probed(health, config.process)
    keylog = config.insecure_keylog_file
    insecure = f"INSECURE: TLS secrets are written to {keylog}" if keylog is not None else ""
    # /ready says this as long as the sidecar runs, and the notices on its file say it as well.
    told = admin_notice(config.admin), insecure
    return probe_finding(health, config.process.kind, answered, told), answered.is_other


def _runs_finding(config: SidecarConfig, *, runs: bool) -> Finding:
    if runs:
        return passed(_RUNS)
    asked = "its admin interface does not answer" if config.admin is not None else "the file has no admin interface"
    return failed(_RUNS, f"{asked}, and no sidecar answers on its ports", "start it, or see its log")


def _listening(config: SidecarConfig) -> list[Listening]:
    lives = [
        *(Listening("inbound.listen", one.listen, live=True) for one in config.inbound),
        *(Listening("outbound.listen", one.listen, live=True) for one in config.outbound),
    ]
    others = given(config.admin, {"health": config.health, "metrics.listen": config.metrics})
    return [*(one for one in lives if one.address.port), *others]


async def _has_its_ports(config: SidecarConfig, trust: Trust | None, now: datetime) -> bool:
    """Whether a sidecar of this identity answers on a port of the file.

    Where no port can show that, for lack of TLS or of an SVID of our own, and nothing else could answer, one that is
    taken has to do.
    """
    shows = [one for one in config.inbound if trust is not None and one.mode is not Mode.DISABLE and one.listen.port]
    for one in shows:
        if trust is not None and await _is_taken(one.listen):
            async for found in _answered(one, config, trust, now):
                if found.mark is Mark.PASSED and not found.reason:  # a reason says that nothing was tried
                    return True
    if shows or config.admin is not None or config.health is not None:
        return False
    return await _is_any_taken(config)


async def _is_any_taken(config: SidecarConfig) -> bool:
    """Whether any port of its listeners is taken."""
    addresses = [*(one.listen for one in config.inbound), *(one.listen for one in config.outbound)]
    return any([await _is_taken(one) for one in addresses if one.port])


async def _is_taken(address: Address) -> bool:
    return bool(await asyncio.to_thread(is_free, address))


async def _answered(inbound: InboundConfig, config: SidecarConfig, trust: Trust, now: datetime) -> Checks:
    """Checks that the listener presents the sidecar's SVID; nothing where it takes plaintext alone."""
    if inbound.mode is Mode.DISABLE:
        return
    address, balancers = reached(inbound.listen), inbound.proxy_protocol_from
    if balancers:
        yield await balanced_peer_finding(address, balancers, config.spiffe_id, trust, now)
    else:
        yield await peer_finding(address, config.spiffe_id, trust, now)


async def _reached(config: SidecarConfig) -> Checks:
    """The apps, and the collector of traces."""
    for app in dict.fromkeys(one.app for one in config.inbound):
        claim = Claim(f"the app at {app} accepts connections", f"the app at {app} accepts no connections")
        yield await reached_finding(app, claim, "start the app, or correct inbound.app")
    if config.tracing is not None:
        collector = config.tracing.otlp.address
        claim = Claim(
            f"the collector at {collector} accepts connections", f"the collector at {collector} accepts no connections"
        )
        found = await reached_finding(collector, claim, "start it, or correct tracing.otlp; spans are lost meanwhile")
        if found.mark is Mark.FAILED:  # calls are served without it
            found = warning(claim, found.reason, found.advice)
        yield found
