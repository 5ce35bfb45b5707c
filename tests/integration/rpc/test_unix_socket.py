"""A listener on a Unix socket: its mode, and that it replaces a dead socket and nothing else."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from meshtls.errors import ConfigError
from meshtls.rpc.sockets import unix_listener
from tests.support.agent import short_directory


@pytest.fixture
def path() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory / "agent.sock"


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as raised, unix_listener(path, 0o666):
        pass
    return str(raised.value)


@pytest.mark.parametrize("mode", [0o666, 0o600])
def test_the_socket_has_its_mode_and_is_gone_afterwards(path: Path, mode: int) -> None:
    with unix_listener(path, mode):
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert answers(path)
    assert not path.exists()


def test_a_dead_socket_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert not answers(path)
    with unix_listener(path, 0o666):
        assert answers(path)


def test_a_socket_with_a_listening_process_is_left_alone(path: Path) -> None:
    with unix_listener(path, 0o666):
        assert refusal(path) == f"{path}: another process listens there; stop it or give another path"
        assert answers(path)


def test_a_socket_whose_queue_is_full_is_left_alone(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, ExitStack() as waiting:
        busy.bind(str(path))
        busy.listen(0)
        while True:
            one = waiting.enter_context(socket.socket(socket.AF_UNIX))
            one.setblocking(False)
            if one.connect_ex(str(path)):
                break
        assert refusal(path) == f"{path}: another process listens there; stop it or give another path"
        assert path.exists()


def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    assert refusal(path) == f"{path}: wanted a free path or a dead socket, found another file; move it away"
    assert path.read_text() == "precious"


def test_an_impossible_socket_path_is_a_clear_error(path: Path) -> None:
    place = path / "agent.sock"
    assert refusal(place) == f"{place}: could not make the socket: No such file or directory"
