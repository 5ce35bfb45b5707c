"""Authorizers as functions: each allows one peer and denies its twin, and says why."""

from collections.abc import Callable
from typing import Any

import pytest

from meshtls.errors import InvalidSpiffeIdError, NotAuthorizedError
from meshtls.policy.authorizer import (
    Authorizer,
    Decision,
    Target,
    authorize_any,
    authorize_id,
    authorize_member_of,
    authorize_one_of,
    check,
    check_authorizer,
    evaluate,
)
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.verify import VerifiedPeer
from tests.support.certs import ca, leaf

WEB, DB, PARTNER = "spiffe://a.test/web", "spiffe://a.test/db", "spiffe://b.test/web"
ROOT = ca()
NO_BOOL: Any = "no"
TARGET = Target(SpiffeId.parse("spiffe://a.test/api"), 8080)


def decide(authorizer: Authorizer, uri: str) -> Decision:
    return authorizer(VerifiedPeer(SpiffeId.parse(uri), (leaf(ROOT, uri).certificate,)), TARGET)


@pytest.mark.parametrize(
    ("authorizer", "uri", "decision"),
    [
        pytest.param(authorize_any(), PARTNER, Decision(True, "any verified peer is allowed"), id="any"),
        pytest.param(
            authorize_id(WEB), WEB, Decision(True, f"peer {WEB} is allowed to reach spiffe://a.test/api"), id="the ID"
        ),
        pytest.param(
            authorize_id(SpiffeId.parse(WEB)),
            DB,
            Decision(False, f"peer {DB} is not allowed to reach spiffe://a.test/api; allowed: {WEB}"),
            id="another ID",
        ),
        pytest.param(
            authorize_id(WEB),
            "spiffe://a.test/Web",
            Decision(False, f"peer spiffe://a.test/Web is not allowed to reach spiffe://a.test/api; allowed: {WEB}"),
            id="the ID in another case",
        ),
        pytest.param(
            authorize_id(WEB),
            PARTNER,
            Decision(False, f"peer {PARTNER} is not allowed to reach spiffe://a.test/api; allowed: {WEB}"),
            id="the same path in another trust domain",
        ),
        pytest.param(
            authorize_one_of(WEB, DB),
            DB,
            Decision(True, f"peer {DB} is allowed to reach spiffe://a.test/api"),
            id="one of two",
        ),
        pytest.param(
            authorize_one_of(WEB, DB),
            PARTNER,
            Decision(False, f"peer {PARTNER} is not allowed to reach spiffe://a.test/api; allowed: {DB}, {WEB}"),
            id="none of two",
        ),
        pytest.param(
            authorize_one_of(),
            WEB,
            Decision(False, f"peer {WEB} is not allowed to reach spiffe://a.test/api; allowed: nobody"),
            id="one of none",
        ),
        pytest.param(
            authorize_member_of("a.test"),
            WEB,
            Decision(True, f"peer {WEB} is a member of trust domain a.test"),
            id="a member",
        ),
        pytest.param(
            authorize_member_of(TrustDomain("a.test")),
            PARTNER,
            Decision(False, f"peer {PARTNER} is not a member of trust domain a.test"),
            id="no member",
        ),
    ],
)
def test_an_authorizers_decision_and_reason(authorizer: Authorizer, uri: str, decision: Decision) -> None:
    assert decide(authorizer, uri) == decision


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://a.test/web/admin",
        "spiffe://a.test/web2",
        "spiffe://a.test/we",
        "spiffe://a.test/x/web",
        "spiffe://a.test",
        "spiffe://a.test.b/web",
        "spiffe://xa.test/web",
    ],
)
@pytest.mark.parametrize("make", [authorize_id, authorize_one_of])
def test_an_id_that_begins_or_ends_like_the_allowed_one_is_denied(make: Callable[[str], Authorizer], uri: str) -> None:
    assert decide(make(WEB), WEB).allowed
    assert not decide(make(WEB), uri).allowed


def test_each_peer_and_target_has_its_own_decision_whoever_asked_before() -> None:
    authorizer, other = authorize_one_of(WEB, DB), Target(SpiffeId.parse("spiffe://a.test/other"))
    web, db, partner = (VerifiedPeer(SpiffeId.parse(uri), (leaf(ROOT, uri).certificate,)) for uri in (WEB, DB, PARTNER))
    asked = [(web, TARGET), (web, TARGET), (db, TARGET), (partner, TARGET), (db, other), (partner, other), (db, TARGET)]
    for peer, target in asked:
        assert authorizer(peer, target) == authorize_one_of(WEB, DB)(peer, target)
        assert authorizer(peer, target).allowed == (peer is not partner)


@pytest.mark.parametrize("domain", ["xa.test", "x.a.test", "-a.test", "a.test.b", "test", "a.tes"])
def test_a_trust_domain_that_begins_or_ends_like_the_allowed_one_is_denied(domain: str) -> None:
    assert decide(authorize_member_of("a.test"), WEB).allowed
    assert not decide(authorize_member_of("a.test"), f"spiffe://{domain}/web").allowed


def test_a_denial_is_false_and_an_allowance_true() -> None:
    assert decide(authorize_id(WEB), WEB)
    assert not decide(authorize_id(WEB), DB)


@pytest.mark.parametrize("make", [authorize_id, authorize_one_of, authorize_member_of])
@pytest.mark.parametrize("text", ["", "*", "spiffe://a.test/web/", "spiffe://*/web"])
def test_a_rule_with_a_malformed_id_is_refused_when_it_is_made(make: Callable[[str], Authorizer], text: str) -> None:
    assert callable(make("spiffe://a.test" if make is authorize_member_of else WEB))
    with pytest.raises(InvalidSpiffeIdError):
        make(text)


NO_TEXT, SEVERAL = "wanted a SPIFFE ID, a str or SpiffeId", "wanted SPIFFE IDs, each a str or SpiffeId"


@pytest.mark.parametrize(
    ("make", "good", "given", "message"),
    [
        (authorize_id, WEB, None, f"authorize_id: {NO_TEXT}, got None"),
        (authorize_id, WEB, 7, f"authorize_id: {NO_TEXT}, got 7"),
        (authorize_id, WEB, WEB.encode(), f"authorize_id: {NO_TEXT}, got b'{WEB}'; decode it first"),
        (
            authorize_id,
            WEB,
            [WEB],
            f"authorize_id: {NO_TEXT}, got ['{WEB}']; for several IDs write authorize_one_of(*ids)",
        ),
        (
            authorize_id,
            WEB,
            TrustDomain("a.test"),
            f"authorize_id: {NO_TEXT}, got TrustDomain(name='a.test'); for all of its workloads use"
            " authorize_member_of('a.test')",
        ),
        (authorize_one_of, WEB, None, f"authorize_one_of: {SEVERAL}, got None"),
        (authorize_one_of, WEB, WEB.encode(), f"authorize_one_of: {SEVERAL}, got b'{WEB}'; decode it first"),
        (
            authorize_one_of,
            WEB,
            (WEB,),
            f"authorize_one_of: {SEVERAL}, got ('{WEB}',); for several IDs write authorize_one_of(*ids)",
        ),
        (
            authorize_one_of,
            WEB,
            [],
            f"authorize_one_of: {SEVERAL}, got []; for several IDs write authorize_one_of(*ids)",
        ),
        (
            authorize_member_of,
            "a.test",
            None,
            "authorize_member_of: wanted a trust domain, got None; give a TrustDomain or its name, as in"
            " authorize_member_of('example.org')",
        ),
    ],
)
def test_a_rule_with_an_invalid_id_is_refused_when_it_is_made(
    make: Callable[[Any], Authorizer], good: str, given: object, message: str
) -> None:
    assert decide(make(good), WEB).allowed
    with pytest.raises(TypeError) as raised:
        make(given)
    assert str(raised.value) == message


def test_a_wrong_id_among_good_ones_is_refused() -> None:
    nothing: Any = None
    assert decide(authorize_one_of(WEB, DB), DB).allowed
    with pytest.raises(TypeError, match="^authorize_one_of: wanted SPIFFE IDs"):
        authorize_one_of(WEB, nothing)


async def never_awaited(peer: VerifiedPeer, target: Target) -> Decision:
    return Decision(True, "nobody waits for this")


def failing(peer: VerifiedPeer, target: Target) -> Decision:
    raise LookupError("the policy server is away")


@pytest.mark.parametrize(
    ("gives", "why"),
    [
        (lambda peer, target: (True, "yes"), "authorizer returned tuple, expected a Decision"),
        (lambda peer, target: "denied", "authorizer returned str, expected a Decision"),
        (lambda peer, target: True, "authorizer returned bool, expected a Decision"),
        (lambda peer, target: None, "authorizer returned NoneType, expected a Decision"),
        (
            lambda peer, target: Decision(NO_BOOL, "not a bool"),
            "the authorizer failed: TypeError",
        ),
        (never_awaited, "authorizer returned a coroutine (it can't be async), expected a Decision"),
        (failing, "the authorizer failed: LookupError"),
    ],
    ids=["a pair", "a text", "a bool", "nothing", "a verdict that is no bool", "a coroutine", "an error"],
)
def test_any_value_but_a_decision_denies(gives: Authorizer, why: str) -> None:
    peer = VerifiedPeer(SpiffeId.parse(WEB), (leaf(ROOT, WEB).certificate,))
    assert evaluate(gives, peer, TARGET) == Decision(False, f"peer {WEB} is not allowed: {why}")
    assert evaluate(lambda peer, target: Decision(True, "yes"), peer, TARGET) == Decision(True, "yes")


def test_a_refusal_is_an_error_with_the_reason_and_the_peer_and_none_where_it_is_allowed() -> None:
    web, db = (VerifiedPeer(SpiffeId.parse(uri), (leaf(ROOT, uri).certificate,)) for uri in (WEB, DB))
    assert check(authorize_id(WEB), web, TARGET) is None
    refusal = check(authorize_id(WEB), db, TARGET)
    assert isinstance(refusal, NotAuthorizedError)
    assert (str(refusal), refusal.peer) == (authorize_id(WEB)(db, TARGET).reason, db)


@pytest.mark.parametrize("given", [None, WEB, Decision(True, "yes")])
def test_a_non_callable_authorizer_is_refused(given: object) -> None:
    with pytest.raises(TypeError) as raised:
        check_authorizer(given)
    assert str(raised.value) == (
        "authorizer: wanted a function that takes a VerifiedPeer and a Target and gives a Decision,"
        f" such as authorize_id(...), got {given!r}"
    )
    check_authorizer(authorize_id(WEB))


def test_the_id_of_one_workload_is_no_trust_domain_to_be_a_member_of() -> None:
    assert decide(authorize_member_of("spiffe://a.test"), WEB).allowed
    with pytest.raises(InvalidSpiffeIdError) as refused:
        authorize_member_of(WEB)
    assert str(refused.value) == f"authorize_member_of: wanted a trust domain, got the ID of one workload, '{WEB}'"
    one: Any = SpiffeId.parse(WEB)
    with pytest.raises(TypeError, match="^authorize_member_of: wanted a trust domain, got SpiffeId"):
        authorize_member_of(one)


@pytest.mark.parametrize(
    ("server", "decision"),
    [
        (WEB, Decision(True, f"the server is {WEB}, as expected")),
        (DB, Decision(False, f"the server is {DB}; expected: {WEB}")),
    ],
)
def test_a_caller_is_told_which_server_it_expected(server: str, decision: Decision) -> None:
    peer = VerifiedPeer(SpiffeId.parse(server), (leaf(ROOT, server).certificate,))

    assert authorize_id(WEB)(peer, Target(SpiffeId.parse(DB), dialled=True)) == decision
