"""The gate of a listener: what it judges, and by which policy."""

from __future__ import annotations

import pytest

from meshtls.policy.authorizer import Authorizer, Decision, Target, authorize_any, authorize_id
from meshtls.policy.decision import PolicyVerdict
from meshtls.policy.istio.compile import compile_policies
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.policy.istio.model import MeshSettings, Workload
from meshtls.policy.istio.parse import parse_documents
from meshtls.policy.request import Request
from meshtls.sidecar.gate import Gate
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verifier import CurrentVerifier
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


# -- policies --

ANYBODY, GET = "{}", "{to: [{operation: {methods: [GET]}}]}"
FROM_OTHER = "{from: [{source: {principals: [example.org/other]}}]}"


def rules(*documents: tuple[str, str], more: str = "") -> WorkloadPolicies:
    """Of AuthorizationPolicies: each has an action, and a rule. ``more`` is for the metadata."""
    text = "---\n".join(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        f"metadata: {{name: {action.lower()}, namespace: default{more}}}\n"
        f"spec: {{action: {action}, rules: [{rule}]{', provider: {name: opa}' if action == 'CUSTOM' else ''}}}\n"
        for action, rule in documents
    )
    mesh, workload = MeshSettings(trust_domain="example.org"), Workload(namespace="default")
    return compile_policies(parse_documents([("p.yaml", text)]), mesh, workload)


def governed(*documents: tuple[str, str], plaintext: bool = False, more: str = "") -> Gate:
    return Gate(OTHER, plaintext=plaintext, rules=rules(*documents, more=more))


REQUEST, PLAINTEXT = Request(PEER, DB, 5432), Request(None, DB, 5432)
ASKED = ("ns[default]-policy[custom]", "opa")


def test_the_precheck_and_the_verdict_ask_about_one_target_so_that_a_list_decides_once() -> None:
    gate = Gate(authorize_id(WEB))
    decision = gate.precheck(PEER, TARGET)
    assert (gate.judge(REQUEST) is decision, decision.allowed) == (True, True)
    other = gate.judge(Request(PEER, DB, 5433))
    assert (other is decision, other.reason) == (False, f"peer {WEB} is allowed to reach {DB}")
    assert gate.precheck(PEER, TARGET).allowed

    gate.replace(OTHER)
    assert not gate.judge(REQUEST).allowed


def test_a_gate_of_what_we_dial_says_which_server_was_expected() -> None:
    gate, request = Gate(OTHER, dialled=True), Request(PEER, DB)
    decision = gate.judge(request)
    assert decision.reason == f"the server is {WEB}; expected: spiffe://example.org/other"
    assert not decision.allowed
    assert gate.precheck(PEER, Target(DB, dialled=True)) == decision
    gate.replace(authorize_id(WEB))
    assert gate.judge(request).reason == f"the server is {WEB}, as expected"


def test_policies_decide_instead_of_the_authorizer() -> None:
    assert governed(("ALLOW", ANYBODY)).judge(REQUEST).policy == "ns[default]-policy[allow]"
    decision = governed(("ALLOW", FROM_OTHER)).judge(REQUEST)
    assert (decision.verdict, decision.clause) == (
        PolicyVerdict.DENY,
        "source.principals: wanted example.org/other, got example.org/web",
    )
    assert governed(("ALLOW", ANYBODY)).precheck(PEER, TARGET).allowed  # rules need more than the peer
    assert not Gate(OTHER).precheck(PEER, TARGET).allowed


def test_plaintext_is_denied_before_policies_are_asked() -> None:
    assert governed(("ALLOW", ANYBODY), plaintext=True).judge(PLAINTEXT).allowed
    decision = governed(("ALLOW", ANYBODY)).judge(PLAINTEXT)
    assert (decision.allowed, decision.policy) == (False, None)
    assert decision.reason == "plaintext proves no identity, and this listener requires mutual TLS"
    assert not governed(("ALLOW", ANYBODY)).judge(PLAINTEXT, reads_http=True).allowed


def test_a_connection_whose_requests_are_read_is_judged_by_them() -> None:
    gate = governed(("ALLOW", GET))
    assert gate.judge(REQUEST, reads_http=True).allowed
    # Where none is read, a rule with fields of HTTP allows nothing: that is a denial, and not a question.
    assert gate.judge(REQUEST).verdict is PolicyVerdict.DENY


def test_a_custom_policy_allows_a_connection_that_its_provider_allowed() -> None:
    gate = governed(("CUSTOM", ANYBODY), ("ALLOW", ANYBODY))
    assert gate.judge(REQUEST, allowed_by=frozenset([ASKED])).policy == "ns[default]-policy[allow]"
    for others in (
        frozenset[tuple[str, str]](),
        frozenset([(ASKED[0], "another")]),
        frozenset([("another", ASKED[1])]),
    ):
        decision = gate.judge(REQUEST, allowed_by=others)
        assert (decision.allowed, decision.policy, decision.reason) == (
            False,
            "ns[default]-policy[custom]",
            "denied: ns[default]-policy[custom] is newer than the connection, and its provider was not asked",
        )
    assert not gate.judge(REQUEST).allowed


def test_a_custom_policy_that_does_not_match_asks_nobody() -> None:
    assert governed(("CUSTOM", FROM_OTHER), ("ALLOW", ANYBODY)).judge(REQUEST).allowed


def test_a_tunnel_is_judged_without_custom_since_its_streams_are_asked_for() -> None:
    assert governed(("CUSTOM", ANYBODY), ("ALLOW", ANYBODY)).judge(REQUEST, allowed_by=None).allowed
    assert not governed(("CUSTOM", ANYBODY), ("ALLOW", FROM_OTHER)).judge(REQUEST, allowed_by=None).allowed


def test_a_custom_policy_with_fields_of_http_denies_and_says_that_none_is_read() -> None:
    decision = governed(("CUSTOM", GET), ("ALLOW", ANYBODY)).judge(REQUEST)
    assert decision.reason.startswith("denied: the CUSTOM rule ns[default]-policy[custom]-rule[0] ")
    assert "has fields of HTTP (operation.methods), and none is read at this port" in decision.reason


def test_policies_that_fail_deny(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: WorkloadPolicies, request: Request, *, reads_http: bool) -> Decision:
        raise ZeroDivisionError

    gate = governed(("CUSTOM", FROM_OTHER), ("ALLOW", ANYBODY))
    assert gate.judge(REQUEST).allowed
    for name in ("custom", "evaluate"):
        with monkeypatch.context() as patch:
            patch.setattr(WorkloadPolicies, name, broken)
            decision = gate.judge(REQUEST)
        assert (decision.verdict, decision.reason) == (
            PolicyVerdict.DENY,
            "denied: the policies could not be evaluated: ZeroDivisionError; see the log",
        )


DRY_RUN = ', annotations: {istio.io/dry-run: "true"}'


def test_dry_runs_judge_what_the_mode_lets_in() -> None:
    gate = governed(("DENY", ANYBODY), plaintext=True, more=DRY_RUN)
    for request in (REQUEST, PLAINTEXT):
        assert gate.judge(request).allowed
        assert [(one.allowed, one.policy) for one in gate.shadow(request)] == [(False, "ns[default]-policy[deny]")]
    strict = governed(("DENY", ANYBODY), more=DRY_RUN)
    assert (len(strict.shadow(REQUEST)), strict.shadow(PLAINTEXT)) == (1, ())
    assert governed(("DENY", ANYBODY), plaintext=True).shadow(REQUEST) == ()
    assert Gate(OTHER).shadow(REQUEST) == ()


def test_dry_runs_read_no_http_at_a_gate() -> None:
    (shadow,) = governed(("ALLOW", GET), more=DRY_RUN).shadow(REQUEST)
    assert shadow.verdict is PolicyVerdict.DENY


def test_dry_runs_that_fail_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = governed(("DENY", ANYBODY), more=DRY_RUN)

    def broken(self: WorkloadPolicies, request: Request, *, reads_http: bool) -> tuple[Decision, ...]:
        raise ZeroDivisionError

    monkeypatch.setattr(WorkloadPolicies, "shadow", broken)
    assert gate.shadow(REQUEST) == ()


def test_a_gate_replaces_its_policies_together_with_its_authorizer() -> None:
    gate = governed(("ALLOW", FROM_OTHER))
    gate.replace(authorize_any(), rules(("ALLOW", ANYBODY)))
    assert gate.judge(REQUEST).policy == "ns[default]-policy[allow]"
    gate.replace(authorize_any())
    assert gate.judge(REQUEST).policy is None


def test_a_gate_has_the_verifier_that_it_is_given() -> None:
    verifier = CurrentVerifier()
    assert Gate(OTHER, verifier=verifier).verifier is verifier
    assert Gate(OTHER).verifier is not verifier
