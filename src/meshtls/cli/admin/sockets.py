"""The admin sockets that the environment and the files of processes name."""

from __future__ import annotations

import os
import re
from pathlib import Path

from meshtls.admin.keys import AdminKeys
from meshtls.config.document import Section, read_text
from meshtls.config.reading import read_section
from meshtls.config.spire import either_form
from meshtls.errors import ConfigError

__all__ = ["VARIABLE", "named_sockets", "socket_in_file"]

#: Not MESHTLS_ADMIN_SOCKET, which leads to the API of the server.
VARIABLE = "MESHTLS_ADMIN_INTERFACE"


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
