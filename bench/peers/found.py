"""Programs that a peer finds on this machine, and what they say of themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

__all__ = ["find", "said"]

_SBIN = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))


def find(program: str) -> str | None:
    """Its path, also from the directories where daemons are put and that a user's PATH lacks."""
    return shutil.which(program) or shutil.which(program, path=_SBIN)


def said(argv: Sequence[str]) -> str:
    """What the program prints, on either stream."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr
