"""Programs of tests in a user and network namespace of their own: there they may capture, without being root."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.require import require, succeeds

__all__ = ["OWN_NETWORK", "OWN_USER", "in_own_network"]

_ROOT = Path(__file__).resolve().parents[2]
#: A user namespace alone: all capabilities in it, and none over the network outside.
OWN_USER = ("unshare", "-Ur")
#: A network namespace of its own as well, with a loopback interface.
OWN_NETWORK = ("unshare", "-Urn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
_SECONDS = 120


def in_own_network(
    module: str, *arguments: str | Path, prefix: Sequence[str] = OWN_NETWORK, seconds: float = _SECONDS
) -> str:
    """Run a module there, and return what it printed; fails if it fails, or takes longer than ``seconds``.

    Without the right to have such a namespace the test is skipped, or fails if MESHTLS_REQUIRE has ``namespaces``.
    """
    require("namespaces", succeeds((*prefix, "true")), "no user namespaces, or no unshare and ip")
    done = subprocess.run(
        [*prefix, sys.executable, "-m", module, *map(str, arguments)],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
