"""A host that no resolver takes is refused where it is read, or where it is used, and never with UnicodeError."""

from __future__ import annotations

import re

import pytest

from meshtls.address import Address, checked_url, host
from meshtls.errors import ConfigError, RequestError
from meshtls.rpc.sockets import tcp_listener
from meshtls.serverapi.federation import endpoint_url

LONG = "a" * 64


@pytest.mark.parametrize("name", ["a..b", ".a", LONG, f"x.{LONG}", ".".join(["a" * 60] * 5)])
def test_a_name_that_no_resolver_takes_is_refused(name: str) -> None:
    shown = r"('.*'|'.*'\.\.\. \(\d+ characters\))"
    wanted = rf"^wanted a host name with labels of 1 to 63 characters, got {shown}$"
    with pytest.raises(RequestError, match=wanted):
        Address.parse(f"{name}:80")
    with pytest.raises(RequestError, match=wanted):
        host(name)
    with pytest.raises(RequestError, match=r"^wanted a URL such as https://log\.example\.org"):
        checked_url(f"https://{name}/")
    with pytest.raises(RequestError, match=r"^wanted a URL such as https://partner\.example:8443/"):
        endpoint_url(f"https://{name}/")


@pytest.mark.parametrize("name", ["a.b", "a.b.", "localhost", "127.0.0.1", "a" * 63])
def test_a_name_and_an_address_are_taken(name: str) -> None:
    assert Address.parse(f"{name}:80").host == host(name) == name
    assert checked_url(f"https://{name}") == endpoint_url(f"https://{name}") == f"https://{name}"


def test_a_listener_at_such_a_name_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=re.escape("probes: wanted to listen on a..b:0: ")):  # noqa: SIM117
        with tcp_listener("a..b", 0, name="probes"):
            pass
    with tcp_listener("127.0.0.1", 0, name="probes"):
        pass
