"""``meshtls policy``: its verbs. Each is imported when it is called."""

from __future__ import annotations

from typing import Any

import click

from meshtls.cli.verbs import VerbGroup
from meshtls.errors import ConfigError, RequestError

__all__ = ["policy"]

_VERBS = {
    "check": ("check", "Read policies, and list what is wrong or suspicious."),
    "explain": ("explain", "Judge one request, and say why."),
    "test": ("run_cases", "Judge a table of requests, and compare the verdicts."),
    "show": ("show", "What a sidecar enforces."),
    "replay": ("replay", "Judge recorded traffic by proposed policies."),
    "suggest": ("suggest", "Write policies that allow just what was recorded."),
}


class _PolicyGroup(VerbGroup):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RequestError as error:
            # Exit code 2: to these verbs 1 is an answer, such as a denial.
            raise ConfigError(str(error)) from error


@click.group(cls=_PolicyGroup, package="meshtls.cli.policy", verbs=_VERBS)
def policy() -> None:
    """Check, explain, test and replay Istio's policies, and suggest some."""
