"""The keys of a sidecar's file that are about tunnels."""

from __future__ import annotations

import pytest

from meshtls.address import Address
from meshtls.errors import ConfigError
from meshtls.sidecar.config import parse_config
from meshtls.sidecar.settings import SidecarConfig

FILE = """\
name: a
spiffe_id: spiffe://example.org/a
inbound:
  - listen: 127.0.0.1:15006
    app: 127.0.0.1:8080
    allow: []
outbound:
  - listen: 127.0.0.1:15001
    to: b:15006
    peer: spiffe://example.org/b
"""


def with_keys(inbound: str = "", outbound: str = "", text: str = FILE) -> SidecarConfig:
    text = text.replace("    allow: []\n", f"    allow: []\n{inbound}")
    return parse_config(text + outbound, "a.yaml")


def test_tunnels_are_off_by_default() -> None:
    config = with_keys()
    assert (config.inbound[0].tunnel, config.inbound[0].destinations) == (False, ())
    assert (config.outbound[0].tunnel, config.outbound[0].destination) == (False, None)


def test_tunnels_and_what_their_streams_name() -> None:
    config = with_keys(
        "    tunnel: true\n    destinations: [b.example:80, '[::1]:80']\n", "    tunnel: true\n    destination: b:80\n"
    )
    assert config.inbound[0].tunnel
    assert config.inbound[0].destinations == (Address("b.example", 80), Address("::1", 80))
    assert (config.outbound[0].tunnel, config.outbound[0].destination) == (True, Address("b", 80))


WITHOUT = "wanted no such key without tunnel: true, whose streams name a destination"
MISTAKES = {
    "no truth value": ("    tunnel: yes\n", "", "line 7: inbound[0].tunnel: wanted true or false, got 'yes'"),
    "names without a tunnel": ("    destinations: [b:80]\n", "", f"line 7: inbound[0].destinations: {WITHOUT}"),
    "a name without a tunnel": ("", "    destination: b:80\n", f"line 11: outbound[0].destination: {WITHOUT}"),
    "a name that is no address": (
        "",
        "    tunnel: true\n    destination: b\n",
        "line 12: outbound[0].destination: wanted host:port such as 127.0.0.1:8080 or [::1]:8080, got 'b'",
    ),
}


@pytest.mark.parametrize(("inbound", "outbound", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_named_in_the_error(inbound: str, outbound: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        with_keys(inbound, outbound)
    assert str(raised.value) == f"a.yaml, {message}"


def test_plaintext_has_no_tunnel() -> None:
    text = FILE.replace("    allow: []\n", "    mode: DISABLE\n    tunnel: true\n")
    with pytest.raises(ConfigError, match=r"inbound\[0\].tunnel: wanted no such key: mode DISABLE takes plaintext"):
        parse_config(text, "a.yaml")
