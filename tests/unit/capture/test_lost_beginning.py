"""Packets of TCP's handshake that the capture lost change nothing of what is told of the connection inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshtls.capture.analysis.connection import Connection
from tests.support.tls_capture import Tape, analyzed, shaken

LOST = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
NAMES = ["SYN", "SYN-ACK", "ACK"]


def told(one: Connection) -> dict[str, object]:
    """What does not depend on TCP's handshake itself."""
    return {
        "bytes": (one.client.tcp_bytes, one.server.tcp_bytes, one.client.tls_bytes, one.server.tls_bytes),
        "application": (one.client.application_bytes, one.server.application_bytes, one.estimated),
        "lost": (one.client.lost_bytes, one.server.lost_bytes),
        "peers": (one.client.peer, one.server.peer),
        "ends": (one.client.ending, one.server.ending),
        "alerts": [(alert.side, alert.name, alert.fatal) for alert in one.alerts],
        "others": (one.protocol, one.connection_id, one.handshake, one.requests, one.troubles, one.outcome),
    }


@pytest.mark.parametrize("keys", [True, False], ids=["keys", "no keys"])
@pytest.mark.parametrize("trusted", [True, False], ids=["accepted", "refused"])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("lost", LOST, ids=lambda lost: " ".join(NAMES[at] for at in lost))
def test_a_handshake_is_told_the_same_without_packets_of_tcps_handshake(
    lost: tuple[int, ...], version: int, trusted: bool, keys: bool, tmp_path: Path
) -> None:
    tape = Tape()
    tape.wire(shaken(tmp_path, version=version, trusted=trusted))
    key_log = tmp_path / "keys" if keys else None
    [whole] = analyzed(tape, key_log)
    assert (len(whole.requests), whole.from_start) == (trusted and keys, True)
    for at in reversed(lost):
        del tape.frames[at]
    [found] = analyzed(tape, key_log)
    assert told(found) == told(whole)
