"""SPIFFE_ENDPOINT_SOCKET: the two forms of the standard, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.errors import ConfigError
from meshtls.workload.address import TcpAddress, UnixAddress, address_from, parse_address


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("unix:///run/agent.sock", UnixAddress("/run/agent.sock")),
        ("UNIX:///run/agent.sock", UnixAddress("/run/agent.sock")),
        ("unix:/run/agent.sock", UnixAddress("/run/agent.sock")),
        ("Unix:/run/my%20agent.sock", UnixAddress("/run/my agent.sock")),
        ("unix:/" + "a" * 106, UnixAddress("/" + "a" * 106)),
        ("unix:///run/my%20agent.sock", UnixAddress("/run/my agent.sock")),
        ("unix:///" + "a" * 106, UnixAddress("/" + "a" * 106)),
        ("tcp://127.0.0.1:8081", TcpAddress("127.0.0.1", 8081)),
        ("tcp://[::1]:65535", TcpAddress("::1", 65535)),
    ],
)
def test_a_good_address_is_read(text: str, wanted: UnixAddress | TcpAddress) -> None:
    assert parse_address(text) == wanted


UNIX_FORM = "wanted an absolute path and no host, as in unix:///run/agent.sock or unix:/run/agent.sock"
TCP_FORM = "wanted an IP address and a port, as in tcp://127.0.0.1:8081"
EITHER = "wanted unix:///absolute/path, unix:/absolute/path or tcp://IP:port"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", EITHER),
        ("/run/agent.sock", EITHER),
        ("tcp:127.0.0.1:8081", EITHER),
        ("http://127.0.0.1:80", EITHER),
        (" unix:///run/agent.sock", EITHER),
        ("unix:///run/agent.sock\n", EITHER),
        ("unix://run/agent.sock", UNIX_FORM),
        ("unix://", UNIX_FORM),
        ("unix:", UNIX_FORM),
        ("unix://%2Frun%2Fagent.sock", UNIX_FORM),
        ("unix:run/agent.sock", UNIX_FORM),
        ("unix:/run/agent.sock?x=1", "wanted no query and no fragment"),
        ("unix:/", "wanted the path of a socket, not of a directory"),
        ("unix:/" + "a" * 107, "wanted a path of at most 107 bytes, got 108"),
        ("unix:///run/agent.sock?x=1", "wanted no query and no fragment"),
        ("unix:///run/agent.sock#x", "wanted no query and no fragment"),
        ("unix:///", "wanted the path of a socket, not of a directory"),
        ("unix:///run/", "wanted the path of a socket, not of a directory"),
        ("unix:///run/a%00b", "wanted a path without a NUL byte"),
        ("unix:/run/a%00b", "wanted a path without a NUL byte"),
        ("tcp://127.0.0.1:+80", "wanted an IP address and a port, as in tcp://127.0.0.1:8081"),
        ("unix:///" + "a" * 107, "wanted a path of at most 107 bytes, got 108"),
        ("tcp://localhost:8081", "wanted an IP address, not a name, got 'localhost'"),
        ("tcp://127.0.0.1", TCP_FORM),
        ("tcp://:8081", TCP_FORM),
        ("tcp://127.0.0.1:0", "wanted a port from 1 to 65535, got 0"),
        ("tcp://127.0.0.1:65536", "Port out of range 0-65535"),
        ("tcp://127.0.0.1:8081/x", "wanted no path, got '/x'"),
        ("tcp://127.0.0.1:8081?x", "wanted no query, got 'x'"),
        ("tcp://127.0.0.1:8081#x", "wanted no fragment, got 'x'"),
        ("tcp://me@127.0.0.1:8081", "wanted no username, got 'me'"),
    ],
)
def test_another_address_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_address(text)
    assert str(raised.value) == f"Workload API address {text!r}: {message}"


@given(st.text(max_size=60).map(lambda rest: f"unix:{rest}") | st.text(max_size=60).map(lambda rest: f"tcp://{rest}"))
def test_junk_is_an_address_or_a_config_error(text: str) -> None:
    try:
        address = parse_address(text)
    except ConfigError:
        return
    assert str(address).startswith(("unix:///", "tcp://"))


def test_a_given_address_goes_before_the_environment() -> None:
    environment = {"SPIFFE_ENDPOINT_SOCKET": "unix:///run/env.sock"}
    assert address_from(None, environment) == UnixAddress("/run/env.sock")
    assert address_from("unix:///run/given.sock", environment) == UnixAddress("/run/given.sock")
    assert address_from(TcpAddress("::1", 1), environment) == TcpAddress("::1", 1)


@pytest.mark.parametrize("environment", [{}, {"SPIFFE_ENDPOINT_SOCKET": ""}])
def test_without_any_address_the_error_says_what_to_set(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as raised:
        address_from(None, environment)
    assert str(raised.value) == (
        "no Workload API address: set SPIFFE_ENDPOINT_SOCKET, or give an address; wanted unix:///absolute/path,"
        " unix:/absolute/path or tcp://IP:port"
    )


@pytest.mark.parametrize(
    "text", ["unix:///run/agent.sock", "unix:///a%20b%2541%3F%23%01:@", "tcp://127.0.0.1:8081", "tcp://[::1]:8081"]
)
def test_an_address_prints_as_it_was_read(text: str) -> None:
    assert str(parse_address(text)) == text
