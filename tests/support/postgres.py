"""A real PostgreSQL from the machine's binaries: in a temporary directory, on a Unix socket, stopped by its pid."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.require import require

__all__ = ["Postgres", "running_postgres"]

_MISSING = "PostgreSQL's initdb and postgres are not installed (Debian's package postgresql has them)"
_SETTINGS = {"fsync": "on", "max_connections": "60", "shared_buffers": "16MB"}


@dataclass
class Postgres:
    """A running cluster. ``new_database`` creates an empty database and returns its URL; ``kill`` simulates a crash."""

    directory: Path
    binaries: Path
    user: str
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def new_database(self) -> str:
        name = f"mesh{os.getpid()}_{next(self._numbers)}"
        self._run("createdb", "-h", str(self.directory), name)
        return f"postgresql://{self.user}@/{name}?host={self.directory}"

    def make(self) -> None:
        self._run("initdb", "-D", str(self.data), "-A", "trust", "--no-sync", "-E", "UTF8", "-U", self.user)

    def start(self) -> None:
        settings = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
        options = f"-k {self.directory} -c listen_addresses= {settings}"
        log = str(self.directory / "log")
        self._run("pg_ctl", "start", "-w", "-D", str(self.data), "-l", log, "-o", options)

    def kill(self) -> None:
        """Kill all of its processes without cleanup, as a failing machine would."""
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)  # immediate shutdown: none of its processes cleans up
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self.data), check=False)

    def stop(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self.data))

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        command = [str(self.binaries / program), *arguments]
        user = self.user if os.geteuid() == 0 else None
        # No pipe for its output: the server would inherit it, and a reader would wait until the server ends.
        with (self.directory / f"{program}.out").open("w+") as out:
            done = subprocess.run(command, stdout=out, stderr=out, check=False, user=user, cwd=self.directory)
            out.seek(0)
            assert not check or done.returncode == 0, f"{program}: {out.read()}"


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A running cluster. Without PostgreSQL the test is skipped, or fails if MESHTLS_REQUIRE includes ``postgres``."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(shutil.which("initdb") or "/").parent]
    binaries = found[-1]
    require("postgres", (binaries / "initdb").exists() and (binaries / "postgres").exists(), _MISSING)
    name = "nobody" if os.geteuid() == 0 else _own_name()
    require("postgres", name is not None, f"initdb wants a user with a name in passwd, and {os.geteuid()} has none")
    assert name is not None
    # The server refuses to run as root, and a Unix socket's path has to be short.
    directory = Path(tempfile.mkdtemp(prefix="meshpg-", dir="/tmp"))
    shutil.chown(directory, name)
    cluster = Postgres(directory, binaries, name)
    try:
        cluster.make()
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(directory)


def _own_name() -> str | None:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return None
