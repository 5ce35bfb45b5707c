"""The gate of a listener: what it judges, and by which policy."""

from __future__ import annotations

import pytest

from meshtls.policy.authorizer import Authorizer, Decision, Target, authorize_any, authorize_id
from meshtls.policy.decision import PolicyVerdict
from meshtls.policy.request import Request
from meshtls.sidecar.gate import Gate
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer

WEB = SpiffeId.parse("spiffe://example.org/web")
PEER, TARGET = VerifiedPeer(WEB, ()), Target(SpiffeId.parse("spiffe://example.org/db"), 5432)


def test_a_gate_judges_by_the_policy_that_it_was_given_last() -> None:
    gate = Gate(authorize_any())
    assert gate.precheck(PEER, TARGET).allowed

    gate.replace(authorize_id("spiffe://example.org/other"))

    assert not gate.precheck(PEER, TARGET).allowed


@pytest.mark.parametrize("wrong", [None, "spiffe://example.org/web", [WEB]])
def test_a_gate_refuses_an_invalid_authorizer_and_keeps_the_present_one(wrong: object) -> None:
    with pytest.raises(TypeError):
        Gate(wrong)  # type: ignore[arg-type]
    gate = Gate(authorize_any())
    with pytest.raises(TypeError):
        gate.replace(wrong)  # type: ignore[arg-type]
    assert gate.precheck(PEER, TARGET).allowed


def _broken(peer: VerifiedPeer, target: Target) -> Decision:
    raise KeyError("a rule without a name")


OTHER = authorize_id("spiffe://example.org/other")
DB = TARGET.local_id


@pytest.mark.parametrize(
    ("authorizer", "plaintext", "peer", "allowed", "reason"),
    [
        (authorize_id(WEB), False, PEER, True, f"peer {WEB} is allowed to reach {DB}"),
        (OTHER, False, PEER, False, f"peer {WEB} is not allowed to reach {DB}; allowed: spiffe://example.org/other"),
        (OTHER, True, PEER, False, f"peer {WEB} is not allowed to reach {DB}; allowed: spiffe://example.org/other"),
        (authorize_any(), True, None, True, "plaintext is allowed here"),
        (OTHER, True, None, True, "plaintext is allowed here"),
        (authorize_any(), False, None, False, "plaintext proves no identity, and this listener requires mutual TLS"),
        (_broken, True, PEER, False, f"peer {WEB} is not allowed: the authorizer failed: KeyError"),
    ],
)
def test_a_peer_is_judged_by_the_authorizer_and_plaintext_by_the_mode(
    authorizer: Authorizer, plaintext: bool, peer: VerifiedPeer | None, allowed: bool, reason: str
) -> None:
    decision = Gate(authorizer, plaintext=plaintext).judge(Request(peer, DB, TARGET.port, "192.0.2.1"))

    assert (decision.allowed, decision.reason) == (allowed, reason)


def test_the_authorizer_is_given_this_side_s_id_and_the_app_s_port() -> None:
    seen: list[tuple[VerifiedPeer, Target]] = []

    def notes(peer: VerifiedPeer, target: Target) -> Decision:
        seen.append((peer, target))
        return Decision(True, "noted")

    assert Gate(notes).judge(Request(PEER, DB, 5432, "192.0.2.1")).allowed
    assert seen == [(PEER, TARGET)]


def test_a_listener_that_reads_no_http_denies_what_needs_an_http_request() -> None:
    def by_method(peer: VerifiedPeer, target: Target) -> Decision:
        return Decision.of(PolicyVerdict.NEEDS_HTTP, policy="ns[a]-policy[get]")

    decision = Gate(by_method).judge(Request(PEER, DB, 5432))
    assert (bool(decision), decision.reason) == (
        False,
        "denied: the policy decides on HTTP requests, and none is read here by policy ns[a]-policy[get]",
    )
