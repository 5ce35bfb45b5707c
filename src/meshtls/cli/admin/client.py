"""The options by which the verbs find the admin interfaces of running processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from meshtls.admin.asking import Interface, Interfaces, processes_at
from meshtls.cli.admin.of_file import interfaces_of_file
from meshtls.cli.admin.sidecar_named import sidecar_interfaces
from meshtls.cli.admin.sockets import VARIABLE, named_sockets
from meshtls.cli.options import ADDRESS
from meshtls.errors import ConfigError

__all__ = ["admin_options"]

F = TypeVar("F", bound=Callable[..., Any])


def admin_options(command: F) -> F:
    """Add ``--sidecar``, ``--socket``, ``--address`` and ``--config``, each as often as wanted, as ``interfaces``."""

    def found(ctx: click.Context, param: click.Parameter, value: tuple[Path, ...]) -> Interfaces:
        sockets, addresses = [*value], ctx.params.pop("address", ())
        of_files = [one for file in ctx.params.pop("config", ()) for one in interfaces_of_file(file)]
        sidecars = [one for named in ctx.params.pop("sidecar", ()) for one in sidecar_interfaces(named)]
        if not sockets and not addresses and not sidecars and not of_files:
            sockets = named_sockets()
            if not sockets:
                if ctx.params.get("logs"):
                    return []  # they are what is asked
                raise ConfigError(
                    f"wanted --sidecar, --socket, --address or --config, or {VARIABLE} with paths: the key"
                    " admin.socket in the file of the running process says where it answers"
                )
        of_sockets = (one for path in sockets for one in processes_at(path))
        return [*of_sockets, *of_files, *map(Interface, addresses), *sidecars]

    for option in (
        click.option(
            "--socket",
            "interfaces",
            multiple=True,
            type=click.Path(path_type=Path),
            callback=found,
            help=f"An admin socket; the default is {VARIABLE}, which may name several, separated by a comma or colon.",
        ),
        click.option(
            "--address", multiple=True, type=ADDRESS, is_eager=True, help="Its loopback address (admin.listen)."
        ),
        click.option(
            "--sidecar",
            metavar="FILE|SOCKET|NAME",
            multiple=True,
            is_eager=True,
            help=f"A running sidecar, by its file, its admin socket, or its name where {VARIABLE} has the socket.",
        ),
        click.option(
            "--config",
            multiple=True,
            type=click.Path(path_type=Path),
            is_eager=True,
            help="The file of a sidecar, an agent or a server, whose admin.socket is asked. Another process there is"
            " refused.",
        ),
    ):
        command = option(command)
    return command
