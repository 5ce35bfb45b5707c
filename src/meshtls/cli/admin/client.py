"""The options by which the verbs find the admin interfaces of running processes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from meshtls.admin.asking import Interface, Interfaces, processes_at
from meshtls.admin.keys import AdminKeys
from meshtls.cli.options import ADDRESS
from meshtls.config.document import Section, read_text
from meshtls.config.reading import read_section
from meshtls.config.spire import either_form
from meshtls.errors import ConfigError

__all__ = ["VARIABLE", "admin_options", "named_sockets", "socket_in_file"]

#: Not MESHTLS_ADMIN_SOCKET, which leads to the API of the server.
VARIABLE = "MESHTLS_ADMIN_INTERFACE"
F = TypeVar("F", bound=Callable[..., Any])


def admin_options(command: F) -> F:
    """``--socket``, ``--address`` and ``--config``, each as often as wanted, passed to the verb as ``interfaces``."""

    def found(ctx: click.Context, param: click.Parameter, value: tuple[Path, ...]) -> Interfaces:
        sockets = [*value, *(path for file in ctx.params.pop("config", ()) for path in (socket_in_file(file),))]
        addresses = ctx.params.pop("address", ())
        if not sockets and not addresses:
            sockets = named_sockets()
            if not sockets:
                if ctx.params.get("logs"):
                    return []  # they are what is asked
                raise ConfigError(
                    f"wanted --socket, --address or --config, or {VARIABLE} with paths: the key admin.socket in the"
                    " file of the running process says where it answers"
                )
        return [*(one for path in sockets for one in processes_at(path)), *map(Interface, addresses)]

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
            "--config",
            multiple=True,
            type=click.Path(path_type=Path),
            is_eager=True,
            help="The file of a sidecar, an agent or a server, whose admin.socket is asked.",
        ),
    ):
        command = option(command)
    return command


def named_sockets() -> list[Path]:
    """The admin sockets that the environment names."""
    return [Path(one) for one in re.split("[,:]", os.environ.get(VARIABLE, "")) if one]


def socket_in_file(file: Path) -> Path:
    """The admin socket that the file of a process names. Raises ConfigError."""
    document, _ = either_form(str(file), read_text(file), "agent")
    section = document.root.keys.get("admin")
    keys = read_section(document, section, AdminKeys).values if isinstance(section, Section) else {}
    if keys.get("socket") is None:
        raise ConfigError(f"{file}: admin.socket: wanted the path of a Unix socket, got none: there is nothing to ask")
    socket: Path = keys["socket"]
    return socket
