"""go-spiffe and gRPC for Go: the small program in ``tests/interop/go``, as used by the interop tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.peers.base import Program, Side, Site

__all__ = ["GoModulesError", "GoSpiffe", "build_go_program", "go_missing"]

_SOURCE = Path(__file__).resolve().parents[2] / "tests" / "interop" / "go"
_OLDEST = (1, 24)
_BUILD_S = 840  # with an empty build cache of Go; a second or two otherwise


class GoSpiffe:
    """A server only, which is also the app. Its mutual TLS is go-spiffe's ``tlsconfig.MTLSServerConfig``."""

    name = "go-spiffe"

    def missing(self) -> str | None:
        return go_missing()

    def version(self) -> str:
        modules = (_SOURCE / "go.mod").read_text()
        spiffe, grpc = (re.search(rf"{name} v(\S+)", modules) for name in ("go-spiffe/v2", "google.golang.org/grpc"))
        return f"go-spiffe/{spiffe[1] if spiffe else '?'} grpc/{grpc[1] if grpc else '?'} {_go_version()}"

    def mtls_programs(self, site: Site) -> Sequence[Program]:
        own, other = site.own(Side.SERVER), site.other(Side.SERVER)
        files = [str(path) for path in (own.chain, own.key, site.certs.roots)]
        return [Program([self._program, "serve-tls", _address(site), *files, other.spiffe_id])]

    def http2_programs(self, site: Site) -> Sequence[Program]:
        own = site.own(Side.SERVER)
        return [Program([self._program, "serve-grpc", _address(site), str(own.chain), str(own.key)])]

    @cached_property
    def _program(self) -> str:
        self._directory = TemporaryDirectory(prefix="meshtls-bench-go-")
        return str(build_go_program(Path(self._directory.name)))


def go_missing() -> str | None:
    """Why the program can't be built here; None if no reason is known."""
    wanted = ".".join(map(str, _OLDEST))
    if shutil.which("go") is None:
        return f"no Go here; install Go {wanted} or newer"
    found = re.search(r"go(\d+)\.(\d+)", _go_version())
    version = tuple(map(int, found.groups())) if found else (0, 0)
    return None if version >= _OLDEST else f"wanted Go {wanted} or newer, got {_go_version()!r}"


class GoModulesError(OSError):
    """The modules of the program can't be fetched, perhaps for lack of a network."""


def build_go_program(directory: Path, source: Path = _SOURCE, package: str = ".") -> Path:
    """Build a package of the module at ``source`` into this directory; modules come from Go's cache or proxy.

    Raises GoModulesError, and OSError if it can't be compiled.
    """
    named = "/".join(source.parts[-3:])
    fetched = _go("mod", "download", cwd=source)
    if fetched.returncode != 0:
        raise GoModulesError(f"the modules of {named} can't be had: {fetched.stderr}")
    program = directory.resolve() / "peer"
    built = _go("build", "-trimpath", "-o", str(program), package, cwd=source)
    if built.returncode != 0:
        raise OSError(f"{named} can't be compiled: {built.stderr}")
    return program


def _address(site: Site) -> str:
    return f"127.0.0.1:{site.listen(Side.SERVER)}"


def _go_version() -> str:
    return _go("env", "GOVERSION", cwd=Path("/")).stdout.strip()


def _go(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"GOTOOLCHAIN": "local"}  # Go must not download another toolchain
    return subprocess.run(
        [shutil.which("go") or "go", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_BUILD_S,
        check=False,
    )
