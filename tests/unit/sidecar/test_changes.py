"""What a new configuration changes for a running sidecar, in words, and what it leaves as it is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from meshtls.sidecar.address import Address
from meshtls.sidecar.changes import Changes, changes, in_force, matched
from meshtls.sidecar.settings import InboundConfig, Limits, Mode, OutboundConfig, SidecarConfig, Workload
from meshtls.spiffeid import SpiffeId
from meshtls.workload.address import parse_address

A, B = SpiffeId.parse("spiffe://example.org/a"), SpiffeId.parse("spiffe://example.org/b")
APP = Address("127.0.0.1", 8080)
IN = InboundConfig(listen=Address("127.0.0.1", 15006), app=APP, allow=(A,))
OUT = OutboundConfig(listen=Address("127.0.0.1", 15001), to=Address("b", 15006), peer=B)
RUNNING = SidecarConfig(name="a", spiffe_id=A, inbound=(IN,), outbound=(OUT,))


@pytest.mark.parametrize(
    ("differing", "taken", "restart"),
    [
        ({}, (), ()),
        ({"inbound": (msgspec.structs.replace(IN, allow=()),)}, ("inbound 127.0.0.1:15006 (allow)",), ()),
        (
            {"inbound": (msgspec.structs.replace(IN, mode=Mode.PERMISSIVE, tunnel=True),)},
            ("inbound 127.0.0.1:15006 (mode, tunnel)",),
            (),
        ),
        (
            {"inbound": (msgspec.structs.replace(IN, listen=Address("127.0.0.1", 15007)),)},
            ("inbound 127.0.0.1:15007 (new)", "inbound 127.0.0.1:15006 (removed)"),
            (),
        ),
        ({"outbound": (msgspec.structs.replace(OUT, peer=A),)}, ("outbound 127.0.0.1:15001 (peer)",), ()),
        ({"outbound": ()}, ("outbound 127.0.0.1:15001 (removed)",), ()),
        ({"limits": Limits(drain=1.0, unproven=5)}, ("limits.unproven", "limits.drain"), ()),
        ({"workload": Workload(cluster="east")}, ("workload.cluster",), ()),
        ({"name": "b"}, (), ("name",)),
        (
            {
                "spiffe_id": B,
                "workload_api": parse_address("unix:///run/other.sock"),
                "health": APP,
                "workers": 2,
            },
            (),
            ("spiffe_id", "identity.workload_api", "health", "workers"),
        ),
    ],
)
def test_each_key_is_taken_over_or_needs_a_restart(
    differing: dict[str, Any], taken: tuple[str, ...], restart: tuple[str, ...]
) -> None:
    wanted = msgspec.structs.replace(RUNNING, **differing)
    assert changes(RUNNING, wanted) == Changes(taken, restart)
    now = in_force(RUNNING, wanted)
    assert changes(RUNNING, now) == Changes(taken, ())
    assert changes(now, wanted) == Changes((), restart)


def test_every_key_of_a_sidecar_is_one_or_the_other() -> None:
    live = {"inbound", "outbound", "workload", "limits", "log_level"}
    told = {"notices"}  # the reading's own words, and no key
    others = {
        "name": "x",
        "spiffe_id": B,
        "workload_api": parse_address("unix:///x.sock"),
        "health": APP,
        "workers": 3,
    }
    assert set(RUNNING.__struct_fields__) == live | told | set(others)
    assert changes(RUNNING, msgspec.structs.replace(RUNNING, log_level="ERROR")).taken == ("log_level",)
    for field, value in others.items():
        assert len(changes(RUNNING, msgspec.structs.replace(RUNNING, **{field: value})).restart) == 1


def test_listeners_are_known_by_their_addresses_and_by_their_order_where_those_are_the_same() -> None:
    anywhere = msgspec.structs.replace(IN, listen=Address("127.0.0.1", 0))
    assert matched([IN, anywhere, anywhere], [anywhere, IN, anywhere, anywhere]) == [1, 0, 2, None]
