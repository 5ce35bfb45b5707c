"""Processes that run, by their admin interfaces alone: what `meshtls up` runs has no other file to check."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from meshtls.address import Address
from meshtls.admin.asking import Interface, ask
from meshtls.cli.admin.sidecar_named import running_sidecar
from meshtls.cli.admin.sockets import VARIABLE
from meshtls.cli.check.connections import connection_checks
from meshtls.cli.check.finding import Checks, Claim, Finding, Group, failed, passed, warning
from meshtls.cli.check.peers import reached_finding
from meshtls.cli.check.versions import version_finding
from meshtls.clock import Clock
from meshtls.errors import ConfigError, RequestError

__all__ = ["interface_groups", "named_sidecar_groups"]

_AGAIN = f"start the process, or correct {VARIABLE}: `meshtls up` prints another one at each start"
_NAMED = (
    f"give the path of its file, or export {VARIABLE} as `meshtls up` prints it, and the name of one of its sidecars"
)


async def named_sidecar_groups(named: str, clock: Clock) -> AsyncIterator[Group]:
    """The running sidecar of this name, or with this admin socket."""
    try:
        interfaces = await running_sidecar(named)
    except ConfigError as error:
        claim = Claim(f"a sidecar {named} is known here", f"no sidecar {named} is known here")
        yield Group("the sidecar", [failed(claim, str(error), _NAMED)])
        return
    async for group in interface_groups(interfaces, clock):
        yield group


async def interface_groups(interfaces: list[Interface], clock: Clock) -> AsyncIterator[Group]:
    """A group for each process."""
    for at in interfaces:
        try:
            told = await ask(at, "/server_info")
        except (ConfigError, RequestError) as error:
            claim = Claim(
                f"the admin interface at {at.name} answers", f"the admin interface at {at.name} does not answer"
            )
            reason = str(error).removeprefix(f"{at.name}: ")
            yield Group(f"the process at {at.name}", [failed(claim, reason, _AGAIN)])
            continue
        kind = str(told.get("kind", "process"))
        who = f"the {kind} {told['name']}" if told.get("name") else f"the {kind} at {at.name}"
        yield Group(who, [one async for one in _process_checks(at, kind, who, told, clock)])


async def _process_checks(at: Interface, kind: str, who: str, told: dict[str, Any], clock: Clock) -> Checks:
    yield version_finding(f"the {kind} at {at.name}", str(told.get("version", "none")))
    yield await _ready_finding(at, who)
    if kind != "sidecar":
        return
    for app in await _apps(at):
        claim = Claim(f"the app at {app} accepts connections", f"the app at {app} accepts no connections")
        yield await reached_finding(app, claim, "start the app, or correct inbound.app")
    if isinstance(at.where, Path):
        async for finding in connection_checks(at.where, clock.now()):
            yield finding


async def _ready_finding(at: Interface, who: str) -> Finding:
    claim = Claim(f"{who} is ready", f"{who} is not ready")
    try:
        state = await ask(at, "/ready")
    except (ConfigError, RequestError) as error:
        return failed(claim, str(error), "see its log")
    text = str(state.get("text") or "")
    if not state.get("ready"):
        return failed(claim, text, "see its log")
    return warning(claim._replace(broken=f"{who} is ready, and warns"), text, "see its log") if text else passed(claim)


async def _apps(at: Interface) -> list[Address]:
    """The apps of a sidecar's listeners; none before its first SVID, when it has no listeners."""
    try:
        found = (await ask(at, "/routes")).get("inbound", ())
        return list(dict.fromkeys(Address.parse(str(one["app"])) for one in found))
    except (ConfigError, RequestError, KeyError, TypeError):
        return []
