"""A server, by its file: its directory, its store, its socket, its ports, its clock."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from meshtls.address import Address
from meshtls.bundle import BundleSet, TrustBundle
from meshtls.cli.access import ServerAccess
from meshtls.cli.check.files import loaded
from meshtls.cli.check.finding import Checks, Finding, failed, passed, warning
from meshtls.cli.check.peers import free_finding, peer_finding
from meshtls.cli.check.sockets import private_finding, room_finding, socket_finding
from meshtls.cli.check.versions import version_finding
from meshtls.cli.check.workload import MOST_SKEW
from meshtls.cli.marks import Mark
from meshtls.clock import Clock
from meshtls.errors import ConfigError, MeshtlsError, StoreError
from meshtls.registration import server_id
from meshtls.serverapi.admin import AdminClient
from meshtls.serverapi.channels import local_channel
from meshtls.serverapi.federation import RelationStatus
from meshtls.serverapi.values import AuthorityStatus, Health
from meshtls.svid.x509 import format_moment

__all__ = ["admin_checks", "relation_finding", "server_checks", "skew_finding", "tainted_finding"]

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # connected to, never bound


class Asked:
    """What a running server told."""

    def __init__(self) -> None:
        self.bundle: TrustBundle | None = None


async def server_checks(file: Path, clock: Clock) -> Checks:
    """The server that this file configures, whether it runs or not."""
    from meshtls.server.config import load_config
    from meshtls.server.settings import ServerConfig
    from meshtls.server.startup import datastore_version, node_roots

    def load(path: Path) -> ServerConfig:
        config = load_config(path)
        node_roots(config.x509pop)
        return config

    read = loaded("server", file, load)
    for finding in read.findings:
        yield finding
    config = read.config
    if config is None:
        return
    for path, what in ((config.data_dir, "the data directory"), (config.keys_dir, "the directory of keys")):
        private = private_finding(path, what)
        if private is not None:
            yield private
    room = room_finding(config.data_dir)
    if room is not None:
        yield room
    schema = "the data store can be read, and has the schema of this version"
    try:
        found = await datastore_version(config)
    except (StoreError, ConfigError) as error:
        yield failed(schema, str(error), "see whether the database runs, and which meshtls wrote it")
    else:
        if found.present is None:
            yield warning(schema, "it has none yet", "the server creates it at its first start")
        elif not found.current:
            yield warning(
                schema, f"it has {found.present}", f"the next start migrates it to {found.wanted}: back it up"
            )
        else:
            yield passed(schema, f"{found.present}")
    asked = Asked()
    running = False
    async for finding in admin_checks(config.socket_path, clock, asked):
        yield finding
        running = running or finding.mark is Mark.PASSED
    for port in dict.fromkeys((config.bind_port, config.attest_port)):
        if not port:
            continue  # a free one, which only the server's own words name
        address = Address(config.bind_address, port)
        if asked.bundle is not None:
            reached = Address(_EVERYWHERE.get(address.host, address.host), port)
            wanted = server_id(config.trust_domain)
            yield await peer_finding(reached, wanted, BundleSet([asked.bundle]), clock.now())
        elif not running:
            yield await free_finding(address, "the server")


async def admin_checks(socket: Path, clock: Clock, asked: Asked) -> Checks:
    """The running server behind this admin socket."""
    found = socket_finding(socket, "the server")
    yield found
    if found.mark is not Mark.PASSED:
        return
    answers = "the server is ready"
    try:
        async with local_channel(socket) as channel:
            api = AdminClient(channel)
            before = clock.now()
            health = await api.health()
            after = clock.now()
            asked.bundle = await api.bundle()
            relations = await api.relations()
            authorities = await api.authorities()
    except MeshtlsError as error:
        yield failed(answers, f"{ServerAccess(socket)}: {error}", "see the server's log")
        return
    if health.ready:
        yield passed(answers, f"{health.entries} entries, {health.agents_connected} agents connected")
    else:
        yield failed(answers, f"it waits for {health.waiting_for}", "see the server's log")
    yield version_finding("the server", health.version)
    yield skew_finding(health, before, after)
    for relation in relations:
        yield relation_finding(relation)
    for authority in authorities:
        if authority.tainted:
            yield tainted_finding(authority)


def relation_finding(status: RelationStatus) -> Finding:
    """Whether the last attempt to fetch another trust domain's bundle succeeded."""
    domain = status.relation.trust_domain
    check = f"the bundle of {domain} is fetched from {status.relation.url}"
    if not status.failure:
        return passed(check)
    advice = f"see whether the endpoint runs, then `meshtls federation refresh --trust-domain {domain}`"
    return failed(check, status.failure, advice)


def tainted_finding(authority: AuthorityStatus) -> Finding:
    """That an authority is to be revoked, and when that breaks nothing."""
    when = format_moment(authority.revocable_at) if authority.revocable_at is not None else "its SVIDs are replaced"
    advice = f"revoke it, from {when} on or as soon as its SVIDs are replaced: `meshtls authority revoke"
    jwt = " --jwt" if authority.kind == "jwt" else ""
    return warning("no authority is tainted", authority.trouble, f"{advice}{jwt} {authority.id}`")


def skew_finding(health: Health, before: datetime, after: datetime) -> Finding:
    """``before`` and ``after`` the call, by our clock."""
    check = "our clock agrees with the server's"
    if health.clock is None:
        return warning(check, "the server does not tell its time", "use a server of this version")
    off = max(before - health.clock, health.clock - after, timedelta())
    if off > MOST_SKEW:
        return failed(
            check,
            f"the server's says {format_moment(health.clock)}, ours {format_moment(after)}",
            "correct the one that is wrong: `timedatectl`, `chronyc tracking`",
        )
    return passed(check)
