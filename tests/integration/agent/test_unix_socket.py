"""The agent's listener: open to all users, in the place of a dead one, and of nothing else."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshtls.agent.unix_socket import bound
from meshtls.errors import ConfigError
from tests.support.agent import short_directory


@pytest.fixture
def path() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory / "agent.sock"


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as raised, bound(path):
        pass
    return str(raised.value)


def test_the_socket_is_open_to_all_users_and_gone_afterwards(path: Path) -> None:
    with bound(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        assert answers(path)
    assert not path.exists()


def test_a_dead_socket_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert not answers(path)
    with bound(path):
        assert answers(path)


def test_a_socket_that_someone_answers_on_is_left_alone(path: Path) -> None:
    with bound(path):
        assert refusal(path) == f"{path}: another process listens there; stop it or give another path"
        assert answers(path)


def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    assert refusal(path) == f"{path}: wanted a free path or a dead socket, found another file; move it away"
    assert path.read_text() == "precious"


def test_a_path_where_no_socket_can_be_is_a_clear_error(path: Path) -> None:
    place = path / "agent.sock"
    assert refusal(place) == f"{place}: could not make the socket: No such file or directory"
