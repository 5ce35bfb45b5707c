"""The limit of file descriptors: raised where that may be, named where it may not."""

from __future__ import annotations

import subprocess
import sys

import pytest

# In a process of its own: a hard limit that was lowered stays so for all but root.
TRY = """
import os, resource, sys
from meshtls.errors import ConfigError
from meshtls.sidecar.descriptors import make_room
soft, hard, connections = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
if not os.getuid():
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    print(make_room(connections), resource.getrlimit(resource.RLIMIT_NOFILE))
except ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("limits", "connections", "said"),
    [
        ((512, 4096), 1000, "2128 (2128, 4096)"),
        ((3000, 4096), 1000, "3000 (3000, 4096)"),
        (
            (512, 1024),
            1000,
            "limits.connections: 1000 connections need 2128 file descriptors, and this process may have 1024; raise its"
            " limit (ulimit -n, LimitNOFILE=), or lower limits.connections",
        ),
    ],
    ids=["a soft limit is raised", "one that is high enough is left", "a hard limit is named"],
)
def test_admission_gives_room_or_a_reason(limits: tuple[int, int], connections: int, said: str) -> None:
    argv = [sys.executable, "-c", TRY, *map(str, (*limits, connections))]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == said
