"""Programs installed on this machine, and their version output."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

__all__ = ["find", "said"]

_SBIN = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))


def find(program: str) -> str | None:
    """The program's path, also from the directories of daemons that a user's PATH lacks."""
    return shutil.which(program) or shutil.which(program, path=_SBIN)


def said(argv: Sequence[str]) -> str:
    """The program's output on both streams."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr
