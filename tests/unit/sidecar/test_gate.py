"""The gate of a listener: it asks what it was last given, and takes nothing that is no authorizer."""

from __future__ import annotations

import pytest

from meshtls.policy.authorizer import Target, authorize_any, authorize_id
from meshtls.sidecar.gate import Gate
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer

WEB = SpiffeId.parse("spiffe://example.org/web")
PEER, TARGET = VerifiedPeer(WEB, ()), Target(SpiffeId.parse("spiffe://example.org/db"), 5432)


def test_a_gate_asks_what_it_was_given_last() -> None:
    gate = Gate(authorize_any())
    assert gate(PEER, TARGET).allowed

    gate.replace(authorize_id("spiffe://example.org/other"))

    assert not gate(PEER, TARGET).allowed


@pytest.mark.parametrize("wrong", [None, "spiffe://example.org/web", [WEB]])
def test_a_gate_takes_no_authorizer_that_is_none_and_keeps_the_one_it_has(wrong: object) -> None:
    with pytest.raises(TypeError):
        Gate(wrong)  # type: ignore[arg-type]
    gate = Gate(authorize_any())
    with pytest.raises(TypeError):
        gate.replace(wrong)  # type: ignore[arg-type]
    assert gate(PEER, TARGET).allowed
