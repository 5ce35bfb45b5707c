"""What two sidecars report, read as one verdict."""

from datetime import UTC, datetime

import pytest

from meshtls.node.verdict import Party, Verdict
from meshtls.observe.events import ConnectionResult, Direction, Outcome


def report(direction: Direction, outcome: Outcome = Outcome.OK) -> ConnectionResult:
    return ConnectionResult(
        sidecar="any",
        direction=direction,
        outcome=outcome,
        words=direction.value,
        started=datetime.now(UTC),
        remote="127.0.0.1:1",
        cipher_suite="TLS_CHACHA20_POLY1305_SHA256",
        peer_serial=f"seen {direction.value}",
    )


CLIENT, SERVER = report(Direction.OUTBOUND), report(Direction.INBOUND)
GOOD = Verdict(True, Outcome.OK, "inbound", "TLS_CHACHA20_POLY1305_SHA256", "seen inbound", "seen outbound")
LOST = Verdict(False, Outcome.RESET, "the byte that was sent through both sidecars did not come back")


@pytest.mark.parametrize(
    ("echoed", "client", "server", "verdict"),
    [
        (True, CLIENT, SERVER, GOOD),
        (False, CLIENT, SERVER, LOST),
        (True, CLIENT, None, LOST),
        (True, report(Direction.OUTBOUND, Outcome.RESET), SERVER, Verdict(False, Outcome.RESET, "outbound")),
        (
            False,
            report(Direction.OUTBOUND, Outcome.RESET),
            report(Direction.INBOUND, Outcome.POLICY_DENIED),
            Verdict(False, Outcome.POLICY_DENIED, "inbound", refused=Party.CLIENT),
        ),
        (
            False,
            report(Direction.OUTBOUND, Outcome.PEER_UNTRUSTED),
            report(Direction.INBOUND, Outcome.HANDSHAKE_FAILED),
            Verdict(False, Outcome.PEER_UNTRUSTED, "outbound", refused=Party.SERVER),
        ),
    ],
)
def test_success_needs_both_reports_and_the_byte(
    echoed: bool, client: ConnectionResult, server: ConnectionResult | None, verdict: Verdict
) -> None:
    assert Verdict.of(echoed, client, server) == verdict
