"""``meshtls check``: the groups of checks for what is on this machine, printed once or until all pass."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import click

from meshtls.admin.asking import processes_at
from meshtls.agent.config import AgentConfig
from meshtls.cli.admin.sidecar_named import names_a_file
from meshtls.cli.admin.sockets import VARIABLE, named_sockets
from meshtls.cli.check.agent import agent_checks, loaded_agent
from meshtls.cli.check.files import Loaded
from meshtls.cli.check.finding import Checks, Claim, Finding, Group, failed
from meshtls.cli.check.interfaces import interface_groups, named_sidecar_groups
from meshtls.cli.check.machine import DESCRIPTORS, machine_checks
from meshtls.cli.check.server import Asked, admin_checks, server_checks
from meshtls.cli.check.sidecar import loaded_sidecar, sidecar_checks, wanted_descriptors
from meshtls.cli.check.workload import Seen, workload_checks
from meshtls.cli.marks import Mark, mark_text
from meshtls.cli.options import DURATION, output_option, workload_address, workload_option
from meshtls.cli.output import Output
from meshtls.clock import SystemClock
from meshtls.errors import ConfigError
from meshtls.sidecar.settings import SidecarConfig
from meshtls.workload.address import ENVIRONMENT_VARIABLE

__all__ = ["check"]

_PAUSE = 1.0
_SET_IT = (
    "set it to the agent's socket, or give --workload-socket; `meshtls up` has no agent: export"
    f" {VARIABLE} as it says, and `meshtls check` checks its sidecars"
)
_ADDRESS_KNOWN = Claim("its address is known", "its address is not known")
_FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line names. ``running``: a sidecar without its file, by its name or its admin socket."""

    server: Path | None
    agent: Path | None
    sidecar: Path | None
    running: str | None
    socket: Path | None
    workload_socket: str | None

    @property
    def is_nothing(self) -> bool:
        """No process is named, by its file or otherwise."""
        return all(one is None for one in (self.server, self.agent, self.sidecar, self.running, self.socket))


@click.command()
@click.option("--server", type=_FILE, metavar="FILE", help="Check the server that this file configures.")
@click.option("--agent", type=_FILE, metavar="FILE", help="Check the agent that this file configures.")
@click.option(
    "--sidecar",
    metavar="FILE|SOCKET|NAME",
    help="Check the sidecar that this file configures, or a running one by its admin socket, or by its name where"
    f" {VARIABLE} has the socket.",
)
@click.option("--socket", type=click.Path(path_type=Path), help="Check the running server with this admin socket.")
@click.option("--wait", type=DURATION, help="Check again until nothing fails, for this long at most.")
@workload_option
@output_option
def check(
    out: Output,
    server: Path | None,
    agent: Path | None,
    sidecar: str | None,
    socket: Path | None,
    wait: timedelta | None,
    workload_socket: str | None,
) -> int:
    """Check this machine, the Workload API, and the server, agent or sidecar that a file configures.

    Where MESHTLS_ADMIN_INTERFACE is set and no process is named, those at its sockets are checked, and the Workload API
    only if SPIFFE_ENDPOINT_SOCKET is set: `meshtls up` has none.

    Each line is a check that passed, is a warning, or failed with the reason and what to do. Run it as the user whose
    program does not work: what is permitted depends on it. Nothing is changed. Exit code 1: a check failed.
    """
    file = Path(sidecar) if sidecar is not None and names_a_file(sidecar) else None
    asked = _Asked(server, agent, file, None if file else sidecar, socket, workload_socket)
    groups = asyncio.run(_until_passed(asked, wait.total_seconds() if wait else 0.0))
    good = not _fails(groups)
    record = {
        "passed": good,
        "groups": [
            {
                "group": group.name,
                "checks": [
                    {
                        "check": one.check,
                        "result": one.mark.value,
                        "reason": one.reason,
                        "advice": one.advice,
                        "problem": one.problem,
                    }
                    for one in group.findings
                ],
            }
            for group in groups
        ],
    }
    lines = []
    for group in groups:
        lines += [group.name, *(line for one in group.findings for line in _finding_lines(one)), ""]
    out.record(record, "\n".join([*lines, _summary(groups)]))
    return 0 if good else 1


async def _until_passed(asked: _Asked, seconds: float) -> list[Group]:
    clock = SystemClock()
    deadline = clock.monotonic() + seconds
    while True:
        groups = await _checked(asked, clock)
        left = deadline - clock.monotonic()
        if not _fails(groups) or left <= 0:
            return groups
        await clock.sleep(min(_PAUSE, left))


async def _checked(asked: _Asked, clock: SystemClock) -> list[Group]:
    seen, groups = Seen(), []
    agent = loaded_agent(asked.agent) if asked.agent is not None else None
    sidecar = loaded_sidecar(asked.sidecar) if asked.sidecar is not None else None
    descriptors, spiffe_id, address = DESCRIPTORS, None, asked.workload_socket
    if sidecar is not None and sidecar.config is not None:
        config = sidecar.config
        descriptors, spiffe_id = wanted_descriptors(config), config.spiffe_id
        address = address or (str(config.workload_api) if config.workload_api else None)
    if agent is not None and agent.config is not None:
        address = address or str(agent.config.endpoint.socket_path)
    groups.append(await _group("this machine", machine_checks(descriptors)))
    if asked.server is not None:
        groups.append(await _group("the server", server_checks(asked.server, clock)))
    if asked.socket is not None:
        groups.append(await _group("the running server", admin_checks(asked.socket, clock, Asked())))
    if agent is not None:
        groups.append(await _group("the agent", agent_checks(agent, clock)))
    interfaces = [one for path in named_sockets() for one in processes_at(path)] if asked.is_nothing else []
    if _wants_workload_api(asked, address, sidecar, agent, elsewhere=bool(interfaces)):
        try:
            where = workload_address(address)
        except ConfigError as error:
            groups.append(Group("the Workload API", [failed(_ADDRESS_KNOWN, str(error), _SET_IT)]))
        else:
            groups.append(await _group(f"the Workload API at {where}", workload_checks(where, spiffe_id, clock, seen)))
    if sidecar is not None:
        groups.append(await _group("the sidecar", sidecar_checks(sidecar, clock, seen)))
    if asked.running is not None:
        groups += [one async for one in named_sidecar_groups(asked.running, clock)]
    groups += [one async for one in interface_groups(interfaces, clock)]
    return groups


def _wants_workload_api(
    asked: _Asked,
    address: str | None,
    sidecar: Loaded[SidecarConfig] | None,
    agent: Loaded[AgentConfig] | None,
    *,
    elsewhere: bool,
) -> bool:
    """Whether the Workload API is to be checked. A file that can't be read would have its ``address``.

    ``elsewhere``: processes are found without their files, which may have their identities from elsewhere.
    """
    if address is not None:
        return True
    if any(one is not None and one.config is None for one in (agent, sidecar)):
        return False
    if sidecar is not None:
        return True
    return asked.is_nothing and (not elsewhere or bool(os.environ.get(ENVIRONMENT_VARIABLE)))


async def _group(name: str, checks: Checks) -> Group:
    return Group(name, [one async for one in checks])


def _fails(groups: list[Group]) -> bool:
    return any(one.mark is Mark.FAILED for group in groups for one in group.findings)


def _finding_lines(one: Finding) -> list[str]:
    if one.mark is Mark.PASSED:
        return [f"  {mark_text(one.mark)} {one.check}" + (f" ({one.reason})" if one.reason else "")]
    return [
        f"  {mark_text(one.mark)} {one.problem}",
        *(f"      {line}" for line in one.reason.split("\n")),
        *([f"      -> {one.advice}"] if one.advice else []),
    ]


def _summary(groups: list[Group]) -> str:
    def count(mark: Mark) -> int:
        return sum(one.mark is mark for group in groups for one in group.findings)

    bad, odd = count(Mark.FAILED), count(Mark.WARNING)
    counted = f"{count(Mark.PASSED)} passed, {odd} warning{'s' * (odd != 1)}, {bad} failed"
    return f"{mark_text(Mark.FAILED if bad else Mark.WARNING if odd else Mark.PASSED)} {counted}"
