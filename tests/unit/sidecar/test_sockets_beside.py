"""The sockets of a sidecar that are no app's and no peer's connection: its room for descriptors counts them, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from meshtls.address import Address
from meshtls.cli.sidecar import sidecar
from meshtls.errors import ConfigError
from meshtls.sidecar.descriptors import sockets_beside_connections
from meshtls.sidecar.settings import InboundConfig, Limits, Mode, OutboundConfig, SidecarConfig
from meshtls.spiffeid import SpiffeId

PEER = SpiffeId.parse("spiffe://example.org/peer")
ANYWHERE = Address("127.0.0.1", 0)
IN = InboundConfig(listen=ANYWHERE, app=ANYWHERE, allow=(PEER,))
PERMISSIVE = InboundConfig(listen=ANYWHERE, app=ANYWHERE, allow=(PEER,), mode=Mode.PERMISSIVE)
# In a process of its own: a hard limit that was lowered stays so for all but root.
TRY = """
import os, resource, sys
from meshtls.errors import ConfigError
from meshtls.sidecar.descriptors import make_room
resource.setrlimit(resource.RLIMIT_NOFILE, (256, int(sys.argv[1])))
if not os.getuid():
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    print(make_room(1000, 34))
except ConfigError as error:
    print(error)
"""


def out(*, warm: int = 0, tunnel: bool = False) -> OutboundConfig:
    return OutboundConfig(listen=ANYWHERE, to=ANYWHERE, peer=PEER, warm=warm, tunnel=tunnel)


@pytest.mark.parametrize(
    ("inbound", "outbound", "health", "sockets"),
    [
        ((IN,), (), None, 1 + 300),
        ((IN, IN), (out(),), ANYWHERE, 4 + 300),
        ((IN, PERMISSIVE), (), None, 2 + 600),
        ((), (out(warm=50),), None, 1 + 51),
        ((), (out(warm=50), out(warm=7)), None, 2 + 51 + 8),
        ((), (out(tunnel=True),), None, 1 + 2 * 11),
    ],
    ids=[
        "a listener",
        "listeners",
        "plaintext is taken",
        "warm connections",
        "of each door",
        "tunnels of 100 streams, of two generations",
    ],
)
def test_each_kind_is_counted(
    inbound: tuple[InboundConfig, ...], outbound: tuple[OutboundConfig, ...], health: Address | None, sockets: int
) -> None:
    config = SidecarConfig(
        name="a",
        spiffe_id=PEER,
        inbound=inbound,
        outbound=outbound,
        health=health,
        limits=Limits(connections=1001, unproven=300),
    )
    assert sockets_beside_connections(config) == sockets


@pytest.mark.parametrize(
    ("hard", "said"),
    [
        (2162, "2162"),
        (
            2161,
            "limits.connections: 1000 connections need 2162 file descriptors (34 of them for listeners, unproven"
            " and warm connections, and tunnels), and this process may have 2161; raise its limit (ulimit -n,"
            " LimitNOFILE=), or lower limits.connections",
        ),
    ],
)
def test_large_handshakes_have_room_or_a_reason(hard: int, said: str) -> None:
    argv = [sys.executable, "-c", TRY, str(hard)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == said


def test_a_starting_sidecar_asks_for_every_missing_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(connections: int, beside: int = 0) -> int:
        raise ConfigError(f"asked for {connections} connections and {beside} sockets beside them")

    monkeypatch.setattr("meshtls.cli.sidecar_reload.make_room", no_room)
    monkeypatch.setattr("meshtls.cli.sidecar.log_as_configured", lambda config: None)
    config = tmp_path / "a.yaml"
    config.write_text(
        f"name: a\nspiffe_id: {PEER}\nlimits: {{connections: 1000}}\nidentity: {{workload_api: unix:///nowhere.sock}}\n"
        f'outbound:\n  - {{listen: "127.0.0.1:0", to: "127.0.0.1:1", peer: "{PEER}", warm: 32}}\n'
    )
    with pytest.raises(ConfigError, match="^asked for 1000 connections and 34 sockets beside them$"):
        sidecar.main(["run", "--config", str(config)], standalone_mode=False)
