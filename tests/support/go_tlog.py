"""golang.org/x/mod's ``tlog`` and ``note``, unmodified, read our log: the program in ``tests/interop/tlog``.

Without a Go that can build it the test is skipped, or fails if MESHTLS_REQUIRE includes ``go``.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.peers.go_spiffe import GoModulesError, build_go_program, go_missing
from tests.support.require import require

__all__ = ["GoLogReader", "b64"]

_SOURCE = Path(__file__).parents[1] / "interop" / "tlog"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class GoLogReader:
    """Built into this directory."""

    def __init__(self, directory: Path) -> None:
        missing = go_missing()
        require("go", missing is None, f"{missing}, for golang.org/x/mod's reader of logs")
        try:
            self._program = build_go_program(directory, _SOURCE)
        except GoModulesError as error:
            require("go", False, str(error))
            raise

    def ask(self, keys: Sequence[object], **asked: Any) -> dict[str, Any]:
        """The program's answer to these ``Notes``, ``Inclusion``, ``Consistency``, ``Log`` and ``Indexes``."""
        request = json.dumps({"Keys": [str(key) for key in keys], **asked})
        done = subprocess.run([self._program], input=request, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer
