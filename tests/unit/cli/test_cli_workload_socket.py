"""Where the Workload API is, by a path, an address or the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshtls.cli.options import workload_address
from meshtls.errors import ConfigError
from meshtls.workload.address import TcpAddress, UnixAddress


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/run/agent.sock", UnixAddress("/run/agent.sock")),
        ("/run/100%25 of it?#1", UnixAddress("/run/100%25 of it?#1")),
        ("unix:///run/agent.sock", UnixAddress("/run/agent.sock")),
        ("unix:/run/agent.sock", UnixAddress("/run/agent.sock")),
        ("tcp://127.0.0.1:8081", TcpAddress("127.0.0.1", 8081)),
    ],
)
def test_a_path_is_taken_as_it_stands_and_an_address_is_parsed(text: str, address: UnixAddress | TcpAddress) -> None:
    assert workload_address(text) == address


def test_a_relative_path_is_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert workload_address("agent.sock") == UnixAddress(f"{tmp_path}/agent.sock")


def test_the_environment_names_the_socket_or_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", "unix:///run/other.sock")
    assert workload_address(None) == UnixAddress("/run/other.sock")
    monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET")
    with pytest.raises(ConfigError, match="set SPIFFE_ENDPOINT_SOCKET"):
        workload_address(None)
