"""What a test needs of the machine: missing means skipped, unless MESHTLS_REQUIRE says that it must be there."""

import os
import shutil
import subprocess
from collections.abc import Sequence

import pytest


def require(name: str, present: bool, why: str) -> None:
    """Skip the test unless `present`; fail it where MESHTLS_REQUIRE (a comma list, or "all") has `name`."""
    if present:
        return
    required = {entry.strip() for entry in os.environ.get("MESHTLS_REQUIRE", "").split(",")}
    if required & {name, "all"}:
        pytest.fail(f"MESHTLS_REQUIRE asks for {name}: {why}", pytrace=False)
    pytest.skip(f"{name}: {why}")


def succeeds(command: Sequence[str]) -> bool:
    """Whether this command is there and ends well: what a test asks before it needs a right of the kernel's."""
    return shutil.which(command[0]) is not None and subprocess.run(command, check=False).returncode == 0
