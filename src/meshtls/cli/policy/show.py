"""``meshtls policy show``: what a sidecar with this file enforces, and what the running one says of itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from meshtls.admin.asking import Interfaces, ask, mistaken, processes_at
from meshtls.cli.options import config_option, output_option
from meshtls.cli.output import Output, Record, Terminal, tell
from meshtls.cli.policy.rule_words import Fields, fields_of, fields_words
from meshtls.cli.policy.sidecar_file import Enforced, enforced_by, policies_of
from meshtls.cli.policy.words import Principals, mode_words
from meshtls.cli.probing import probed
from meshtls.errors import MeshtlsError
from meshtls.observe.process_name import ProcessName
from meshtls.observe.readiness import Readiness
from meshtls.policy.istio.rules import CompiledRule
from meshtls.policy.istio.scope import policy_name
from meshtls.printable import printable
from meshtls.sidecar.config import load_config
from meshtls.sidecar.policies import PolicySet
from meshtls.sidecar.settings import SidecarConfig

__all__ = ["show"]


@click.command()
@config_option
@output_option
def show(config: Path, out: Output) -> int:
    """Show the rules in force at each inbound listener of the sidecar with this file.

    They are read from the file and its policies, as a running sidecar does within a second of a change. If the file has
    `admin.socket`, the running sidecar is asked which rules it enforces; with `health` alone, whether it has taken the
    file. Exit code: 0, or 1 if it says that it has not, enforces others, can't be asked, or is another process.
    """
    loaded = load_config(config)
    given, listeners = policies_of(loaded), enforced_by(loaded)
    fields = fields_of(given.applying())
    running = _running(loaded, listeners)
    dry_runs = [policy_name(one.meta) for one in given.applying() if one.dry_run]
    if out.as_json:
        out.record(
            {
                "sidecar": loaded.name,
                "spiffe_id": str(loaded.spiffe_id),
                "namespace": given.workload.namespace,
                "labels": dict(given.workload.labels),
                "trust_domains": [given.mesh.trust_domain, *given.mesh.trust_domain_aliases],
                "path_normalization": given.mesh.normalization.value,
                "listeners": [_record(one, fields) for one in listeners],
                "dry_run": dry_runs,
                "notices": list(loaded.notices),
                "running": None if running is None else {"ready": running.ready, "text": running.text},
            }
        )
    else:
        _tell(loaded, given, listeners, fields, dry_runs, running)
    return 0 if running is None or (running.ready and not running.text) else 1


def _running(config: SidecarConfig, listeners: list[Enforced]) -> Readiness | None:
    """What the running sidecar says; None if its file names no address for it."""
    if config.admin is not None and config.admin.socket is not None:
        try:
            return asyncio.run(_enforced(processes_at(config.admin.socket), config.process, listeners))
        except MeshtlsError as error:
            return Readiness(False, str(error))
    if config.health is None:
        return None
    return asyncio.run(probed(config.health, config.process)).state


async def _enforced(processes: Interfaces, process: ProcessName, listeners: list[Enforced]) -> Readiness:
    """Whether every process is ``process``, is ready and enforces what the file says, at each listener in its order."""
    wanted = [[(rule.policy, rule.rule, rule.action.value) for rule in one.policies.rules] for one in listeners]
    for at in processes:
        if mismatch := await mistaken(at, process):
            return Readiness(False, mismatch)
        state, policies = await ask(at, "/ready"), await ask(at, "/policies")
        if not state["ready"]:
            return Readiness(False, state["text"])
        found = [
            [(rule["policy"], rule["rule"], rule["action"]) for rule in listener["rules"]]
            for listener in policies["listeners"]
        ]
        if policies["not_taken"] or found != wanted:
            why = (
                policies["not_taken"]
                or f"it enforces other rules than this file says (generation {policies['generation']})"
            )
            return Readiness(True, why)
    return Readiness(True)


def _record(one: Enforced, fields: Fields) -> Record:
    (mode, by), principals = one.mode, one.principals()
    return {
        "listen": str(one.inbound.listen),
        "app": str(one.inbound.app),
        "protocol": one.inbound.protocol.value,
        "mode": mode.value,
        "mode_policy": by,
        "jwt_issuers": [rule.issuer for rule in one.policies.jwt_rules],
        "rules": [
            {
                "policy": rule.policy,
                "rule": rule.rule,
                "action": rule.action.value,
                "provider": rule.provider,
                "file": rule.place.file,
                "line": rule.place.line,
                "principals": list(principals.get(rule.name, ())),
                **fields.get(rule.name, {}),
            }
            for rule in one.policies.rules
        ],
    }


def _tell(
    config: SidecarConfig,
    given: PolicySet,
    listeners: list[Enforced],
    fields: Fields,
    dry_runs: list[str],
    running: Readiness | None,
) -> None:
    labels = ", ".join(f"{name}={value}" for name, value in given.workload.labels) or "no labels"
    tell(f"sidecar {config.name} is {config.spiffe_id}, in namespace {given.workload.namespace}, with {labels}")
    console = Terminal(highlight=False)
    for one in listeners:
        inbound = one.inbound
        tell(f"inbound {inbound.listen} to the app at {inbound.app}, protocol {inbound.protocol.value}")
        tell(f"  {mode_words(one.mode)}")
        for rule in one.policies.jwt_rules:
            tell(f"  tokens of {rule.issuer}")
        if one.policies.rules:
            console.print(_table(one.policies.rules, one.principals(), fields))
        else:
            tell("  no rule is in force")
    for name in dry_runs:
        tell(f"dry run: {name}, which changes no verdict")
    for notice in config.notices:
        tell(f"notice: {notice}")
    if running is None:
        tell("the running sidecar was not asked: its file has neither admin.socket nor health")
    elif running.ready:
        tell(f"the running sidecar is ready{f': {running.text}' if running.text else ', and has taken this file'}")
    else:
        tell(f"the running sidecar is not ready: {running.text}")


def _table(rules: tuple[CompiledRule, ...], principals: Principals, fields: Fields) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("action", "policy", "rule", "principals", "asks for", "place"):
        table.add_column(name, overflow="fold")
    for one in rules:
        action = f"{one.action.value} by {one.provider}" if one.provider else one.action.value
        names = ", ".join(principals.get(one.name, ())) or "any"
        table.add_row(
            Text(printable(action)), Text(one.policy), one.rule, Text(printable(names)),
            Text(printable(fields_words(fields.get(one.name, {})))), Text(printable(str(one.place))),
        )  # fmt: skip
    return table
