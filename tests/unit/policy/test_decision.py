"""A decision: what it allows, and when its text is made."""

from __future__ import annotations

from typing import Any

import pytest

from meshtls.errors import NotAuthorizedError
from meshtls.policy.authorizer import Target, authorize_id, check, evaluate
from meshtls.policy.decision import Decision, NearMiss, PolicyVerdict
from meshtls.policy.request import HttpRequest, Request
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer

WEB = SpiffeId.parse("spiffe://a.test/web")
PEER, TARGET = VerifiedPeer(WEB, ()), Target(SpiffeId.parse("spiffe://a.test/api"), 80)
NEAREST = NearMiss("ns[a]-policy[ok]", "0", "source.namespaces: wanted b, got a")
NO_FILTER = "denied: the policy decides on HTTP requests, and none is read here"


@pytest.mark.parametrize("verdict", PolicyVerdict)
def test_a_decision_is_true_only_where_it_allows(verdict: PolicyVerdict) -> None:
    decision = Decision.of(verdict, "why")
    allowed = verdict is PolicyVerdict.ALLOW
    assert (bool(decision), decision.allowed) == (allowed, allowed)


def test_a_user_s_decision_is_a_bool_and_a_reason() -> None:
    assert Decision(True, "yes").verdict is PolicyVerdict.ALLOW
    assert Decision(allowed=False, reason="no").verdict is PolicyVerdict.DENY
    assert Decision(False, "no").reason == "no"


@pytest.mark.parametrize("wrong", ["no", 1, None, PolicyVerdict.DENY])
def test_a_decision_by_anything_but_a_bool_is_an_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"^Decision: wanted True or False, got {type(wrong).__name__}$"):
        Decision(wrong, "why")


@pytest.mark.parametrize("wrong", [True, "allow", None])
def test_a_verdict_that_is_none_of_the_three_is_an_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"^Decision: wanted a PolicyVerdict, got {type(wrong).__name__}$"):
        Decision.of(wrong)


@pytest.mark.parametrize(
    ("decision", "reason"),
    [
        (Decision.of(PolicyVerdict.ALLOW), "allowed"),
        (Decision.of(PolicyVerdict.DENY), "denied"),
        (Decision.of(PolicyVerdict.DENY, "not today", policy="p"), "not today"),
        (
            Decision.of(PolicyVerdict.DENY, policy="ns[a]-policy[no]", rule="1", clause="ports: 80"),
            "denied by policy ns[a]-policy[no], rule 1: ports: 80",
        ),
        (
            Decision.of(PolicyVerdict.DENY, nearest=NEAREST),
            "denied; nearest: policy ns[a]-policy[ok], rule 0: source.namespaces: wanted b, got a",
        ),
        (Decision.of(PolicyVerdict.ALLOW, policy="p", rule="0"), "allowed by policy p, rule 0"),
        (Decision.of(PolicyVerdict.NEEDS_HTTP), NO_FILTER),
        (Decision.of(PolicyVerdict.NEEDS_HTTP, "GET only", policy="p"), f"{NO_FILTER} by policy p: GET only"),
    ],
)
def test_a_reason_that_was_not_given_is_made_of_the_parts(decision: Decision, reason: str) -> None:
    assert decision.reason == reason
    assert repr(decision) == f"<Decision {decision.verdict.name} {reason!r}>"


def test_text_is_made_when_it_is_read_and_not_before() -> None:
    read: list[str] = []

    def reason() -> str:
        read.append("read")
        return "why"

    decision = Decision.of(PolicyVerdict.DENY, reason)
    assert (bool(decision), decision.verdict, read) == (False, PolicyVerdict.DENY, [])
    assert (decision.reason, read) == ("why", ["read"])


def test_decisions_are_equal_by_their_parts_and_their_text() -> None:
    lazy = authorize_id(WEB)(PEER, TARGET)
    assert lazy == Decision(True, f"peer {WEB} is allowed to reach {TARGET.local_id}")
    assert hash(lazy) == hash(Decision(True, "anything"))
    assert lazy != Decision(True, "anything")
    assert lazy != Decision(False, lazy.reason)
    assert lazy != lazy.reason
    named = [Decision.of(PolicyVerdict.DENY, "x", policy=one) for one in ("p", "q")]
    assert named[0] != named[1]


def test_a_decision_cannot_be_changed() -> None:
    decision: Any = Decision(False, "no")
    with pytest.raises(AttributeError):
        decision.verdict = PolicyVerdict.ALLOW
    assert not decision


def test_an_authorizer_that_needs_http_lets_nobody_in() -> None:
    def by_method(peer: VerifiedPeer, target: Target) -> Decision:
        return Decision.of(PolicyVerdict.NEEDS_HTTP, policy="ns[a]-policy[get]")

    assert evaluate(by_method, PEER, TARGET).verdict is PolicyVerdict.NEEDS_HTTP
    refusal = check(by_method, PEER, TARGET)
    assert isinstance(refusal, NotAuthorizedError)
    assert str(refusal) == f"{NO_FILTER} by policy ns[a]-policy[get]"


def test_a_request_has_the_id_that_its_peer_proved_and_none_for_plaintext() -> None:
    http = HttpRequest("GET", "api", "/")
    assert Request(PEER, TARGET.local_id, 80, "192.0.2.1", "api", http).source == WEB
    assert Request(None, TARGET.local_id, 80).source is None
