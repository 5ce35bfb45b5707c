"""A server, by its file: its directory, its store, its socket, its ports, its clock."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from meshtls.address import Address
from meshtls.admin.asking import is_admin_interface
from meshtls.bundle import BundleSet, TrustBundle
from meshtls.cli.access import IS_ADMIN_INTERFACE, ServerAccess
from meshtls.cli.check.files import loaded
from meshtls.cli.check.finding import Checks, Claim, Finding, failed, passed, warning
from meshtls.cli.check.listeners import (
    Listening,
    free_findings,
    given,
    mismatch_findings,
    silent_findings,
    unused_findings,
)
from meshtls.cli.check.peers import peer_finding, reached
from meshtls.cli.check.running import running_process
from meshtls.cli.check.sockets import NOT_THERE, private_finding, room_finding, socket_finding
from meshtls.cli.check.versions import version_finding
from meshtls.cli.check.workload import MOST_SKEW
from meshtls.cli.marks import Mark
from meshtls.clock import Clock
from meshtls.errors import ConfigError, MeshtlsError, PeerError, StoreError
from meshtls.observe.process_name import ProcessName
from meshtls.registration import server_id
from meshtls.serverapi.admin import AdminClient
from meshtls.serverapi.channels import local_channel
from meshtls.serverapi.federation import RelationStatus
from meshtls.serverapi.values import AuthorityStatus, Health
from meshtls.spiffeid import SpiffeId
from meshtls.svid.presented import read_presented
from meshtls.svid.x509 import format_moment, spiffe_id_of
from meshtls.tls.unverified import look_at_unverified_server

if TYPE_CHECKING:
    from meshtls.server.settings import ServerConfig

__all__ = ["admin_checks", "relation_finding", "server_checks", "skew_finding", "tainted_finding"]

_SECONDS = 5.0


class Asked:
    """What a running server told."""

    def __init__(self) -> None:
        self.connected = False
        self.bundle: TrustBundle | None = None


async def server_checks(file: Path, clock: Clock) -> Checks:
    """The server that this file configures, whether it runs or not."""
    from meshtls.server.config import load_config
    from meshtls.server.startup import node_roots

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
    store = await _store_finding(config)
    asked, running = Asked(), await running_process(config.admin, config.process)
    for finding in mismatch_findings(running, "the server"):
        yield finding
    found = [one async for one in admin_checks(config.socket_path, clock, asked, config.process)]
    wanted, ports = server_id(config.trust_domain), _ports(config)
    # Where a TLS server presents this ID, which nothing verifies.
    addresses = [reached(one.address) for one in ports] if not asked.connected else []
    elsewhere = [one for one in addresses if await _presented(one) == wanted]
    moved = bool(elsewhere) and found[0].reason == NOT_THERE
    if moved:
        found[0] = replace(found[0], advice=_elsewhere(config, wanted, elsewhere[0]))
    if not moved or store.mark is not Mark.WARNING:  # the store of such a server is not at this path
        yield store
    for one in found:
        yield one
    for port in ports:
        if asked.bundle is not None:
            yield await peer_finding(reached(port.address), wanted, BundleSet([asked.bundle]), clock.now())
    listening = _listening(config)
    if asked.connected:
        async for finding in unused_findings(listening, running, "the server"):
            yield finding
        for finding in silent_findings(config.admin, running):
            yield finding
    elif not elsewhere:
        async for finding in free_findings([*ports, *listening], "the server"):
            yield finding


def _elsewhere(config: ServerConfig, wanted: SpiffeId, answers: Address) -> str:
    advice = f"a server that presents {wanted} answers on {answers}"
    if config.socket_path.is_absolute():
        return f"{advice}: name the data_dir and the socket_path that it runs with"
    return (
        f"{advice}: was it started from another directory? The file's {config.socket_path} is relative: run the check"
        " there, or write an absolute path into the file"
    )


async def _store_finding(config: ServerConfig) -> Finding:
    from meshtls.server.startup import datastore_version

    holds = "the data store can be read, and has the schema of this version"
    try:
        found = await datastore_version(config)
    except (StoreError, ConfigError) as error:
        unread = Claim(holds, "the data store can't be read")
        return failed(unread, str(error), "see whether the database runs, and which meshtls wrote it")
    if found.present is None:
        return warning(
            Claim(holds, "the data store has no schema"), "it has none yet", "the server creates it at its first start"
        )
    if not found.current:
        older = Claim(holds, "the data store has another schema than that of this version")
        advice = f"the next start migrates it to {found.wanted}: back it up"
        return warning(older, f"it has {found.present}", advice)
    return passed(Claim(holds, ""), f"{found.present}")


def _ports(config: ServerConfig) -> list[Listening]:
    """The two that have the server's own TLS."""
    numbers = {"bind_port": config.bind_port, "attest_port": config.attest_port}
    found = {number: key for key, number in reversed(numbers.items()) if number}
    return [Listening(key, Address(config.bind_address, number), live=True) for number, key in reversed(found.items())]


def _listening(config: ServerConfig) -> list[Listening]:
    """The others."""
    endpoint = config.bundle_endpoint
    return given(
        config.admin,
        {
            "metrics.listen": config.metrics,
            "transparency_log.listen": config.log_listen,
            "revocation.listen": config.revocation_listen,
            "downstream_spire_listen": config.downstream_spire_listen,
            "federation.bundle_endpoint.listen": endpoint.listen if endpoint is not None else None,
        },
    )


async def _presented(address: Address) -> SpiffeId | None:
    try:
        seen = await asyncio.to_thread(look_at_unverified_server, address, _SECONDS)
        return spiffe_id_of(read_presented(seen.chain)[0].certificate)
    except PeerError:
        return None


async def admin_checks(socket: Path, clock: Clock, asked: Asked, wanted: ProcessName | None = None) -> Checks:
    """The running server behind this admin socket, which is ``wanted`` if that is given."""
    found = socket_finding(socket, "the server")
    yield found
    if found.mark is not Mark.PASSED:
        return
    asked.connected = True
    ready = Claim("the server is ready", "the server is not ready")
    try:
        async with local_channel(socket) as channel:
            api = AdminClient(channel)
            before = clock.now()
            health = await api.health()
            after = clock.now()
            if wanted is not None and (mismatch := wanted.mismatch(health.process_at(socket), f"the socket {socket}")):
                asked.connected = False
                yield failed(ready, mismatch, "stop the other one, or give each a socket_path of its own")
                return
            asked.bundle = await api.bundle()
            relations = await api.relations()
            authorities = await api.authorities()
    except MeshtlsError as error:
        if await is_admin_interface(socket):
            yield failed(ready, f"{socket}: {IS_ADMIN_INTERFACE}", "`meshtls admin ready` asks this one")
        else:
            yield failed(ready, f"{ServerAccess(socket)}: {error}", "see the server's log")
        return
    if health.ready:
        yield passed(ready, f"{health.entries} entries, {health.agents_connected} agents connected")
    else:
        yield failed(ready, f"it waits for {health.waiting_for}", "see the server's log")
    works = Claim("the server keeps changes and signs", "the server does not keep changes, or does not sign")
    for trouble in health.troubles:
        yield failed(works, trouble, "mend that, and the next change or signature ends it")
    if not health.troubles:
        yield passed(works)
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
    url = status.relation.url
    claim = Claim(
        f"the bundle of {domain} is fetched from {url}", f"the bundle of {domain} can't be fetched from {url}"
    )
    if not status.failure:
        return passed(claim)
    advice = f"see whether the endpoint runs, then `meshtls federation refresh --trust-domain {domain}`"
    return failed(claim, status.failure, advice)


def tainted_finding(authority: AuthorityStatus) -> Finding:
    """That an authority is to be revoked, and when that breaks nothing."""
    when = format_moment(authority.revocable_at) if authority.revocable_at is not None else "its SVIDs are replaced"
    advice = f"revoke it, from {when} on or as soon as its SVIDs are replaced: `meshtls authority revoke"
    jwt = " --jwt" if authority.kind == "jwt" else ""
    claim = Claim("no authority is tainted", "an authority is tainted")
    return warning(claim, authority.trouble, f"{advice}{jwt} {authority.id}`")


def skew_finding(health: Health, before: datetime, after: datetime) -> Finding:
    """``before`` and ``after`` the call, by our clock."""
    holds = "our clock agrees with the server's"
    if health.clock is None:
        return warning(
            Claim(holds, "our clock can't be compared with the server's"),
            "the server does not tell its time",
            "use a server of this version",
        )
    claim = Claim(holds, "our clock differs from the server's")
    off = max(before - health.clock, health.clock - after, timedelta())
    if off > MOST_SKEW:
        return failed(
            claim,
            f"the server's says {format_moment(health.clock)}, ours {format_moment(after)}",
            "correct the one that is wrong: `timedatectl`, `chronyc tracking`",
        )
    return passed(claim)
