"""The code for wire formats needs neither an event loop nor ``ssl``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import meshtls.wire

FORBIDDEN = {"asyncio", "ssl", "_ssl", "socket", "_socket", "selectors"}
ROOT = Path(meshtls.wire.__file__).parent
MODULES = [
    ".".join(("meshtls", "wire", *path.relative_to(ROOT).with_suffix("").parts)) for path in sorted(ROOT.rglob("*.py"))
]


def test_the_wire_package_loads_no_event_loop_no_socket_and_no_ssl() -> None:
    imports = "".join(f"import {module.removesuffix('.__init__')}\n" for module in MODULES)
    # What msgspec loads by itself (uuid, and with it _socket) is no concern of the package.
    program = f"import sys, msgspec\nbefore = set(sys.modules)\n{imports}print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "meshtls.wire.tls" in loaded
    assert FORBIDDEN.isdisjoint(loaded)
