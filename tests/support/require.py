"""Requirements of tests on the machine: a missing one skips the test, or fails it if MESHTLS_REQUIRE includes it.

MESHTLS_REQUIRE is a comma-separated list of names, or "all", from which "-NAME" excepts one.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

import pytest


def require(name: str, present: bool, why: str) -> None:
    """Skip the test unless `present`; fail it if MESHTLS_REQUIRE includes `name`."""
    if present:
        return
    required = _required()
    if required & {name, "all"} and f"-{name}" not in required:
        pytest.fail(f"MESHTLS_REQUIRE asks for {name}: {why}", pytrace=False)
    pytest.skip(f"{name}: {why}")


def is_fault(skip: str) -> bool:
    """Whether a skip for this reason is a failure, since everything is required but what is excepted."""
    required = _required()
    excepted = tuple(f"{entry[1:]}: " for entry in required if entry.startswith("-"))
    return "all" in required and not skip.removeprefix("Skipped: ").startswith(excepted)


def _required() -> set[str]:
    return {entry.strip() for entry in os.environ.get("MESHTLS_REQUIRE", "").split(",")}


def succeeds(command: Sequence[str]) -> bool:
    """Whether this command exists and succeeds; for tests that need a privilege from the kernel."""
    return shutil.which(command[0]) is not None and subprocess.run(command, check=False).returncode == 0


def runs_for_others() -> bool:
    """Whether a user without privileges can run this Python: not where it, or its library, is in somebody's home."""
    become = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    return succeeds((*become, sys.executable, "-c", ""))
