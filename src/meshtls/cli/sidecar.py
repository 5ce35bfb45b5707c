"""``meshtls sidecar``: run a sidecar, check its file, ask a running one for its health."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import click

from meshtls.cli.options import config_option, output_option
from meshtls.cli.output import Output, Record
from meshtls.cli.probing import probed
from meshtls.cli.serving import (
    GRACE,
    end_within,
    log_as_configured,
    tell_health,
    tell_serving_line,
    tell_valid,
)
from meshtls.cli.sidecar_reload import ConfigFile, ConfigSource, SharedConfig, keep_reloading
from meshtls.clock import SystemClock
from meshtls.errors import ConfigError
from meshtls.logs import logger
from meshtls.observe.access_log import AccessLog, LineStream
from meshtls.policy.jwt.svids import svid_domain
from meshtls.reloading import hangup_signal
from meshtls.request_auth.bundles import JwtBundles
from meshtls.sidecar.config import load_config
from meshtls.sidecar.early import serving_early
from meshtls.sidecar.loop import run as run_on_own_loop
from meshtls.sidecar.metrics.service import SidecarMetrics
from meshtls.sidecar.metrics.worker_snapshots import WorkerSnapshots
from meshtls.sidecar.run import run_until_signal
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.services import check_services
from meshtls.sidecar.settings import MOST_WORKERS, Mode, SidecarConfig
from meshtls.sidecar.tracing.service import check_tracing
from meshtls.sidecar.whole_lines import WholeLines
from meshtls.sidecar.workers import Workers
from meshtls.svid.x509 import X509Svid
from meshtls.workload.address import ENVIRONMENT_VARIABLE
from meshtls.workload.background import in_background
from meshtls.workload.failures import other_identity
from meshtls.workload.x509_source import X509Source

__all__ = ["config_does", "config_record", "serving_record", "serving_text", "sidecar", "source_of"]

log = logger("meshtls.sidecar")


@click.group()
def sidecar() -> None:
    """A sidecar: plaintext to its app, mutual TLS to its peers."""


@sidecar.command()
@config_option
@click.option("--workers", type=click.IntRange(1, MOST_WORKERS), help="Worker processes; default: the file's, or 1.")
@click.option(
    "--allow-insecure-keylog",
    is_flag=True,
    help="Allow insecure_keylog_file and insecure_capture, which write TLS secrets and whole connections, to debug.",
)
@output_option
def run(config: Path, workers: int | None, allow_insecure_keylog: bool, out: Output) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Access log on standard output, logs on standard error.

    On SIGHUP, and when the file changes, it is read again: listeners, allow lists and limits change without a restart.
    Changes that need a restart are logged.

    With --output json, a line with an "event" on standard output reports that the sidecar serves.
    """
    file = ConfigFile(config, workers)
    if file.running.insecure_keylog_file is not None and not allow_insecure_keylog:
        raise ConfigError(
            f"{config}: insecure_keylog_file: it lets whoever reads {file.running.insecure_keylog_file} decrypt every"
            " connection; remove the key, or run with --allow-insecure-keylog while you debug"
        )
    _check_capture(config, file.running, allow_insecure_keylog)
    log_as_configured(file.running)
    for notice in file.running.notices:
        log.warning("%s", notice)
    if file.running.workers == 1:
        run_on_own_loop(_run(file, sys.stdout, out))
        return
    with WholeLines(sys.stdout) as lines, SharedConfig(file) as shared:
        places = WorkerSnapshots(file.running.workers) if file.running.metrics else None

        def serve(parent: int, number: int) -> None:
            if places is not None:
                places.begin(number)
            run_on_own_loop(_run(shared, lines, out, parent, places, number))

        status = Workers(file.running.workers, serve, shared.reread).run()
    sys.exit(status)


def _check_capture(config: Path, running: SidecarConfig, allowed: bool) -> None:
    keys = running.insecure_capture
    if keys is None:
        return
    if not allowed:
        raise ConfigError(
            f"{config}: insecure_capture: it lets whoever reads {keys.file} read every connection; remove the key, or"
            " run with --allow-insecure-keylog while you debug"
        )
    if running.workers > 1:
        raise ConfigError(
            f"{config}: insecure_capture: wanted workers: 1, since they have one file, got {running.workers}"
        )


@sidecar.command()
@config_option
@output_option
def validate(config: Path, out: Output) -> None:
    """Read the file, and print what it configures, or everything that is wrong with it."""
    loaded = load_config(config)
    check_services(loaded)
    check_tracing(loaded)
    makes = f"sidecar {loaded.name} is {loaded.spiffe_id}"
    tell_valid(out, config, makes, config_does(loaded), loaded.notices, config_record(loaded))


@sidecar.command()
@config_option
@output_option
def healthcheck(config: Path, out: Output) -> int:
    """Ask the sidecar that runs with this file whether it is ready."""
    loaded = load_config(config)
    if loaded.health is None:
        raise ConfigError(f"{config}: health: wanted the address that the sidecar answers probes on; it is missing")
    return tell_health(out, asyncio.run(probed(loaded.health, loaded.process)).state)


async def _run(
    config: ConfigSource,
    lines: LineStream,
    out: Output,
    parent: int | None = None,
    places: WorkerSnapshots | None = None,
    worker: int = 0,
) -> None:
    def tell_serving() -> None:
        if not out.as_json:
            tell_serving_line(f"serving: {serving_text(running)}", loaded)
            return
        try:
            # On the access log's stream, since several workers write whole lines to it.
            lines.write(json.dumps(serving_record(running)) + "\n")
            lines.flush()
        except OSError as error:
            log.error('could not write the event "serving" to standard output: %s', error)  # noqa: TRY400  # says all

    def on_stop(number: signal.Signals) -> None:
        end_within(running.config.limits.drain + GRACE, number)

    log_lines = AccessLog(lines)
    with hangup_signal() as hangup:
        loaded = config.load()
        metrics = SidecarMetrics(places) if loaded.metrics else None
        if metrics is not None:
            metrics.count_left_out(lambda: log_lines.left_out)
        clock, source = SystemClock(), source_of(loaded)
        if metrics is not None:
            metrics.count_identity_failures(lambda: source.failures)
        async with (
            serving_early(loaded, source.readiness, clock, metrics, worker) as early,
            source,
            jwt_bundles_of(loaded) as jwt_bundles,
            Sidecar(
                loaded,
                source,
                on_result=log_lines,
                on_request=log_lines.request,
                jwt_bundles=jwt_bundles,
                metrics=metrics,
                clock=clock,
                worker=worker,
                early=early,
            ) as running,
            in_background(keep_reloading(running, config, hangup), "reload"),
        ):
            await run_until_signal(running, parent, tell_serving, on_stop)


def source_of(config: SidecarConfig) -> X509Source:
    """The source of the identity that the file names. To enter it waits for the first SVID.

    Raises ConfigError without an address, and when it is entered LocalIdentityError without an SVID.
    """

    def pick(svids: Sequence[X509Svid]) -> X509Svid:
        for svid in svids:
            if svid.spiffe_id == config.spiffe_id:
                return svid
        given = (svid.spiffe_id for svid in svids)
        raise LookupError("; ".join(other_identity(config.spiffe_id, given, source.without_svid)))

    source = X509Source(config.workload_api, picker=pick)
    return source


@asynccontextmanager
async def jwt_bundles_of(config: SidecarConfig) -> AsyncIterator[JwtBundles]:
    """The JWT bundles of the Workload API, asked for when a RequestAuthentication first needs them.

    If one needs them now, they are there. Raises LocalIdentityError otherwise.
    """
    documents = config.policies.documents.request_authentications if config.policies is not None else ()
    async with JwtBundles(config.workload_api) as bundles:
        if any(svid_domain(rule) for one in documents for rule in one.rules):
            await bundles.answered(None)
            bundles()
        yield bundles


def config_does(config: SidecarConfig) -> Iterator[str]:
    """What a sidecar with this configuration does: a line for each listener and each other effect."""
    for listener in config.inbound:
        allowed = ", ".join(map(str, listener.allow)) or ("nobody" if listener.allow_given else "")
        if config.policies is not None:
            allowed = "by policies" + (f", and {allowed}" if allowed else "")
        if listener.mode is Mode.DISABLE and config.policies is None:
            allowed = "anybody, in plaintext"
        yield f"inbound {listener.listen} ({listener.mode.value}) to the app at {listener.app}; allowed: {allowed}"
    for outbound in config.outbound:
        proof = "in plaintext, by a DestinationRule" if outbound.plaintext else f"which must be {outbound.peer}"
        if outbound.origination is not None:
            proof = f"a server that must be {' or '.join(outbound.origination.expected)}, by a DestinationRule"
        yield f"outbound {outbound.listen} to {outbound.to}, {proof}"
    yield f"gets its SVID from {config.workload_api or f'the Workload API at {ENVIRONMENT_VARIABLE}'}"
    limits = config.limits
    each = f" in each of {config.workers} processes" if config.workers > 1 else ""
    yield f"serves up to {limits.connections} connections{each}, and drains for {limits.drain:g} s before it stops"
    if config.health:
        yield f"answers probes on {config.health}"
    if config.metrics:
        yield f"answers scrapes of metrics on {config.metrics}"
    admin = config.admin
    if admin is not None:
        yield from (f"answers the admin interface on {at}" for at in (admin.socket, admin.listen) if at)
    if config.tracing is not None:
        yield f"sends spans to {config.tracing.otlp}"
    yield f"logs at level {config.log_level}"


def config_record(config: SidecarConfig) -> Record:
    """The configuration as fields."""
    return {
        "name": config.name,
        "spiffe_id": str(config.spiffe_id),
        "workload_api": str(config.workload_api) if config.workload_api else None,
        "inbound": [
            {
                "listen": str(listener.listen),
                "app": str(listener.app),
                "mode": listener.mode.value,
                "allow": list(map(str, listener.allow)),
                "protocol": listener.protocol.value,
            }
            for listener in config.inbound
        ],
        "outbound": [
            {"listen": str(outbound.listen), "to": str(outbound.to), "peer": str(outbound.peer)}
            for outbound in config.outbound
        ],
        "health": str(config.health) if config.health else None,
        "metrics": str(config.metrics) if config.metrics else None,
        **_observed_record(config),
        "policies": [str(path) for path in config.policy_paths],
        "workers": config.workers,
        "log_level": config.log_level,
        "notices": list(config.notices),
    }


def serving_text(sidecar: Sidecar) -> str:
    """Who a running sidecar is, and the addresses that it listens on."""
    inbound = ", ".join(str(listener.address) for listener in sidecar.inbound)
    outbound = ", ".join(str(listener.address) for listener in sidecar.outbound)
    admin, tracing = sidecar.config.admin, sidecar.config.tracing
    listens = (
        f"inbound on {inbound}" if inbound else "nothing inbound",
        f"outbound on {outbound}" if outbound else "nothing outbound",
        *([f"probes on {sidecar.health.address}"] if sidecar.health else ()),
        *([sidecar.runtime.wire_file.notice] if sidecar.runtime.wire_file is not None else ()),
        *([f"metrics on {sidecar.scrapes.address}"] if sidecar.scrapes else ()),
        *([f"admin interface on {admin.socket}"] if admin is not None and admin.socket else ()),
        *([f"admin interface on {admin.listen}"] if admin is not None and admin.listen else ()),
        *([f"spans to {tracing.otlp}"] if tracing is not None else ()),
    )
    return f"sidecar {sidecar.config.name} is {sidecar.config.spiffe_id}; {'; '.join(listens)}"


def serving_record(sidecar: Sidecar) -> Record:
    """The addresses that a running sidecar listens on. ``pid`` distinguishes worker processes."""
    return {
        "event": "serving",
        "sidecar": sidecar.config.name,
        "spiffe_id": str(sidecar.config.spiffe_id),
        "inbound": [str(listener.address) for listener in sidecar.inbound],
        "outbound": [str(outbound.address) for outbound in sidecar.outbound],
        "health": str(sidecar.health.address) if sidecar.health else None,
        "metrics": str(sidecar.scrapes.address) if sidecar.scrapes else None,
        **_observed_record(sidecar.config),
        "pid": os.getpid(),
    }


def _observed_record(config: SidecarConfig) -> Record:
    admin, tracing = config.admin, config.tracing
    return {
        "admin_socket": str(admin.socket) if admin is not None and admin.socket else None,
        "admin_listen": str(admin.listen) if admin is not None and admin.listen else None,
        "tracing": str(tracing.otlp) if tracing is not None else None,
    }
