"""The log level of the command line is that of meshtls, whatever its libraries log."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.waiting import SECONDS

PROGRAM = """
import logging, sys
from meshtls.cli.options import log_to_stderr
log_to_stderr(logging.getLevelNamesMapping()[sys.argv[1]])
logging.root.setLevel(sys.argv[2])  # as a reload does
for name in ("meshtls.agent", "hpack.hpack", "grpclib.server", "alembic.runtime", "aiosqlite", "asyncio"):
    for level in (logging.DEBUG, logging.INFO, logging.WARNING):
        logging.getLogger(name).log(level, "said")
"""


@pytest.mark.parametrize(
    ("start", "reloaded", "ours"),
    [("INFO", "DEBUG", ["DEBUG", "INFO", "WARNING"]), ("DEBUG", "INFO", ["INFO", "WARNING"])],
)
def test_libraries_log_warnings_at_every_level_of_meshtls(start: str, reloaded: str, ours: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, start, reloaded], capture_output=True, text=True, check=True, timeout=SECONDS
    )
    lines = [line.split()[2:4] for line in done.stderr.splitlines()]
    assert lines == [
        *([level, "meshtls.agent:"] for level in ours),
        *(
            ["WARNING", f"{name}:"]
            for name in ("hpack.hpack", "grpclib.server", "alembic.runtime", "aiosqlite", "asyncio")
        ),
    ]
