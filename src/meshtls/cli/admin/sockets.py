"""The admin sockets that the environment names."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["VARIABLE", "named_sockets"]

#: Not MESHTLS_ADMIN_SOCKET, which leads to the API of the server.
VARIABLE = "MESHTLS_ADMIN_INTERFACE"


def named_sockets() -> list[Path]:
    """The admin sockets that the environment names."""
    return [Path(one) for one in re.split("[,:]", os.environ.get(VARIABLE, "")) if one]
