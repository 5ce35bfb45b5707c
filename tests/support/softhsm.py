"""SoftHSM2, a PKCS#11 module whose tokens are directories: for tests of keys in a token."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from meshtls.ca.keys.pkcs11 import Pin, Token
from tests.support.require import require

__all__ = ["MODULE", "PIN", "SoftHsm", "has_soft_hsm", "soft_hsm"]

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "73521846"


@dataclass(frozen=True)
class SoftHsm:
    """A directory with one token, labelled ``mesh``. ``environment`` leads programs to it."""

    directory: Path

    @property
    def pin_file(self) -> Path:
        return self.directory / "pin"

    @property
    def environment(self) -> dict[str, str]:
        return {"SOFTHSM2_CONF": str(self.directory / "softhsm2.conf")}

    def token(self, label: str = "mesh") -> Token:
        return Token(MODULE, label, Pin(self.pin_file))

    def add(self, label: str) -> None:
        """Initialize one more token."""
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "0000"],
            env=os.environ | self.environment, check=True, capture_output=True,
        )  # fmt: skip

    def pull(self) -> None:
        """Take the token away."""
        (self.directory / "tokens").rename(self.directory / "away")

    def plug(self) -> None:
        """Put it back."""
        (self.directory / "away").rename(self.directory / "tokens")

    def objects(self) -> str:
        """What OpenSC's pkcs11-tool tells of the objects in the token."""
        listed = subprocess.run(
            ["pkcs11-tool", "--module", MODULE, "--token-label", "mesh", "--login", "--pin", PIN, "-O"],
            env=os.environ | self.environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        return listed.stdout


def has_soft_hsm() -> bool:
    """Whether this machine has it, with the tools."""
    return shutil.which("softhsm2-util") is not None and shutil.which("pkcs11-tool") is not None and MODULE.exists()


@contextlib.contextmanager
def soft_hsm(directory: Path) -> Iterator[SoftHsm]:
    """A new token, to which this process and its children are led by SOFTHSM2_CONF while the body runs."""
    require("softhsm", has_soft_hsm(), "needs softhsm2 and opensc")
    import pkcs11

    (directory / "tokens").mkdir(parents=True)
    (directory / "softhsm2.conf").write_text(
        f"directories.tokendir = {directory}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    hsm = SoftHsm(directory)
    hsm.pin_file.touch(0o600)
    hsm.pin_file.write_text(f"{PIN}\n")
    hsm.add("mesh")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ.update(hsm.environment)
    try:
        yield hsm
    finally:
        # The module reads SOFTHSM2_CONF when it is initialized.
        with contextlib.suppress(pkcs11.PKCS11Error), ThreadPoolExecutor(1) as thread:
            # It leaves errors in OpenSSL's queue of the thread that calls it.
            thread.submit(lambda: pkcs11.lib(str(MODULE)).finalize()).result()
        if before is None:
            del os.environ["SOFTHSM2_CONF"]
        else:
            os.environ["SOFTHSM2_CONF"] = before
