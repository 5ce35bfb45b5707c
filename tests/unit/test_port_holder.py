"""Who has a port: told of processes that this user may look at, by program and verb, and of no other."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshtls.port_holder import bind_reason
from tests.support.require import require, runs_for_others

IN_USE = OSError(errno.EADDRINUSE, "as the system says it")
EVERYWHERE = "0.0.0.0"  # noqa: S104  # on a free port, for a moment
#: Listens, says where, and waits for the end of its input. Its arguments are those of the test.
LISTENER = """\
import socket, sys
family, host = (socket.AF_INET6, sys.argv[1]) if ":" in sys.argv[1] else (socket.AF_INET, sys.argv[1])
with socket.create_server((host, 0), family=family) as listener:
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@contextmanager
def listening(*command: str, host: str = "127.0.0.1", more: tuple[str, ...] = ()) -> Iterator[tuple[int, int]]:
    """A process of this command, which reads LISTENER's arguments, and its port."""
    with subprocess.Popen([*command, host, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        assert process.stdin is not None
        process.stdin.close()


def program(directory: Path, name: str) -> str:
    file = directory / name
    file.write_text(f"#!{sys.executable}\n" + LISTENER.replace("sys.argv[1]", "sys.argv[3]"))
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", EVERYWHERE),
        ("127.0.0.1", "localhost"),
        (EVERYWHERE, "127.0.0.1"),
        ("::1", "::1"),
        ("::", "127.0.0.1"),
    ],
)
def test_the_process_that_listens_on_the_address_is_named(host: str, asked: str) -> None:
    with listening(sys.executable, "-c", LISTENER, host=host) as (pid, port):
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        assert bind_reason(IN_USE, asked, port) == f"Address already in use, by process {pid} ({name})"


def test_a_port_of_our_own_is_said_to_be_ours() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert bind_reason(IN_USE, "127.0.0.1", port) == "Address already in use, by this process"


def test_port_holders_of_ours_are_named_with_their_verb_and_no_further_word(tmp_path: Path) -> None:
    for name, verb, told in (
        ("meshtls", "sidecar", "meshtls sidecar"),
        ("meshtls", "--secret", "meshtls"),
        ("other-program", "sidecar", "other-program"),
    ):
        with listening(program(tmp_path, name), verb, "token", more=("--token=secret",)) as (pid, port):
            wanted = f"Address already in use, by process {pid} ({told})"
            assert bind_reason(IN_USE, "127.0.0.1", port) == wanted


def test_nothing_is_added_where_no_process_is_known() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert bind_reason(IN_USE, "127.0.0.2", port) == "Address already in use"
        assert bind_reason(OSError(errno.EACCES, ""), "127.0.0.1", port) == "Permission denied"
    assert bind_reason(OSError("without a number"), "127.0.0.1", port) == "without a number"


def test_a_port_that_is_taken_but_not_listened_on_is_said_to_be_taken_alone() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert bind_reason(IN_USE, "127.0.0.1", bound.getsockname()[1]) == "Address already in use"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root, to become another user")
def test_another_users_process_is_not_named() -> None:
    code = (
        "from meshtls.port_holder import bind_reason; import errno, sys;"
        "print(bind_reason(OSError(errno.EADDRINUSE, ''), '127.0.0.1', int(sys.argv[1])))"
    )
    require("another user", runs_for_others(), "another user can't run this Python")
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asked = [sys.executable, "-c", code, str(listener.getsockname()[1])]
        ours, others = (
            subprocess.run([*user, *asked], capture_output=True, text=True, check=True).stdout for user in ((), nobody)
        )
    assert ours == f"Address already in use, by process {os.getpid()} ({Path('/proc/self/comm').read_text().strip()})\n"
    assert others == "Address already in use\n"
