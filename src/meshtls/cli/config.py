"""``meshtls config``: the keys of the configuration files."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

import click
import msgspec

from meshtls.cli.options import output_option
from meshtls.cli.output import Output
from meshtls.config.schema import json_schema, text_of

__all__ = ["FILES", "ConfigFile", "config"]


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A kind of configuration file: the verb that reads it, and the module and struct that declare its keys."""

    verb: str
    module: str
    struct: str

    def keys(self) -> type[msgspec.Struct]:
        found: type[msgspec.Struct] = getattr(import_module(self.module), self.struct)
        return found


FILES = {
    "sidecar": ConfigFile("meshtls sidecar run", "meshtls.sidecar.settings", "SidecarFile"),
    "agent": ConfigFile("meshtls agent run", "meshtls.agent.config_keys", "AgentFile"),
    "server": ConfigFile("meshtls server run", "meshtls.server.config_keys", "ServerFile"),
    "ca": ConfigFile("meshtls ca serve", "meshtls.cli.ca_config", "CaFile"),
}


@click.group()
def config() -> None:
    """The configuration files of sidecar, agent, server and CA."""


@config.command()
@click.argument("file", type=click.Choice(list(FILES)))
@output_option
def schema(file: str, out: Output) -> None:
    """Print every key of a file with its type, default and meaning; with --output json as JSON Schema."""
    chosen = FILES[file]
    keys = chosen.keys()
    text = f"The keys of the file of `{chosen.verb}`.\n\n{text_of(keys)}"
    out.record(json_schema(keys, f"The file of {chosen.verb}"), text)
