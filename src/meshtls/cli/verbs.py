"""A group of verbs that imports each only when it is called."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

__all__ = ["VerbGroup"]


class VerbGroup(click.Group):
    """Imports a verb when it is called: ``meshtls fetch jwt`` does not import a database driver.

    ``verbs`` has each verb with its module within ``package`` and its summary, which the list of verbs shows without
    importing any. The verb is the function of its name there, with underscores for dashes.
    """

    def __init__(self, *given: Any, package: str, verbs: Mapping[str, tuple[str, str]], **keys: Any) -> None:
        super().__init__(*given, **keys)
        self._package = package
        self._verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._verbs:
            return None
        module, _ = self._verbs[cmd_name]
        command: click.Command = getattr(import_module(f"{self._package}.{module}"), cmd_name.replace("-", "_"))
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # click's method would import every verb for its help text.
        verbs = [CompletionItem(name, help=text) for name, text in self._summaries() if name.startswith(incomplete)]
        # The options of the group itself, without its commands.
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(self._summaries())

    def _summaries(self) -> list[tuple[str, str]]:
        return [(name, text) for name, (_, text) in self._verbs.items()]
