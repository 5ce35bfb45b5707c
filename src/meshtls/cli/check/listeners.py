"""The addresses that a file has a process listen on: free before it runs, and in use once it does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from meshtls.address import Address
from meshtls.admin.keys import AdminKeys
from meshtls.cli.check.finding import Checks, Claim, Finding, failed, warning
from meshtls.cli.check.peers import free_finding
from meshtls.cli.check.running import Running
from meshtls.cli.check.sockets import is_free

__all__ = ["Listening", "free_findings", "given", "in_use", "mismatch_findings", "silent_findings", "unused_findings"]


class Listening(NamedTuple):
    """An address that a file has a process listen on. ``key`` is the file's. ``live``: a running process takes it from
    the file without a restart.
    """

    key: str
    address: Address
    live: bool = False


def given(admin: AdminKeys | None, addresses: Mapping[str, Address | None]) -> list[Listening]:
    """The addresses that the file gives: ``addresses`` by their keys, and that of its admin interface."""
    found = [Listening(key, one) for key, one in addresses.items() if one is not None]
    if admin is not None and admin.listen is not None:
        found.append(Listening("admin.listen", admin.listen))
    return [one for one in found if one.address.port]  # a free port, which only the process's own words name


async def free_findings(wanted: Iterable[Listening], who: str) -> Checks:
    """Whether the addresses of ``who``, which does not run, are free."""
    for one in wanted:
        yield await free_finding(one.address, who, "" if one.live else one.key)


async def in_use(address: Address, running: Running) -> bool:
    """Whether the running process has this address in use, as it says; or else whether anything has."""
    if running.listening is not None:
        return str(address) in running.listening
    return bool(await asyncio.to_thread(is_free, address))


async def unused_findings(wanted: Iterable[Listening], running: Running, who: str) -> Checks:
    """A warning for each address that the running process has not in use, though its file has it."""
    for one in wanted:
        if not await in_use(one.address, running):
            yield _unused(one, running, who)


def silent_findings(admin: AdminKeys | None, running: Running) -> list[Finding]:
    """A warning if the process runs, and its admin interface does not answer."""
    where = None if admin is None else admin.socket or admin.listen
    if where is None or running.runs or running.mismatch:
        return []
    claim = Claim(f"the admin interface at {where} answers", f"the admin interface at {where} does not answer")
    return [warning(claim, "the process runs, and its file has this key", "restart it, if the key is new in the file")]


def mismatch_findings(running: Running, who: str) -> list[Finding]:
    """A failure if another process than ``who`` has its admin interface."""
    if not running.mismatch:
        return []
    claim = Claim(f"the admin interface is that of {who}", "the admin interface is that of another process")
    return [failed(claim, running.mismatch, f"correct the section admin, stop the other one, or restart {who}")]


def _unused(one: Listening, running: Running, who: str) -> Finding:
    holds = f"{one.key} {one.address} is in use"
    if one.live:
        claim = Claim(holds, f"{one.key} {one.address} is in the file, but not in use")
        reason = running.not_taken or f"{who} runs with an older configuration"
        return warning(claim, reason, f"see {who}'s log for why it did not take the file, or restart it")
    claim = Claim(holds, f"{one.key} is in the file, but in use only after a restart")
    return warning(claim, f"{who} runs, and does not listen on {one.address}", f"restart {who}, or remove the key")
