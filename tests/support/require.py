"""Requirements of tests on the machine: a missing one skips the test, or fails it if MESHTLS_REQUIRE includes it."""

import os
import shutil
import subprocess
from collections.abc import Sequence

import pytest


def require(name: str, present: bool, why: str) -> None:
    """Skip the test unless `present`; fail it if MESHTLS_REQUIRE (a comma-separated list, or "all") has `name`."""
    if present:
        return
    required = {entry.strip() for entry in os.environ.get("MESHTLS_REQUIRE", "").split(",")}
    if required & {name, "all"}:
        pytest.fail(f"MESHTLS_REQUIRE asks for {name}: {why}", pytrace=False)
    pytest.skip(f"{name}: {why}")


def succeeds(command: Sequence[str]) -> bool:
    """Whether this command exists and succeeds; for tests that need a privilege from the kernel."""
    return shutil.which(command[0]) is not None and subprocess.run(command, check=False).returncode == 0
