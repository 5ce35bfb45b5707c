"""Authorizers as functions: each allows one peer and denies its twin, and says why."""

from collections.abc import Callable

import pytest

from meshtls.errors import InvalidSpiffeIdError
from meshtls.policy.authorizer import (
    Authorizer,
    Decision,
    Target,
    authorize_any,
    authorize_id,
    authorize_member_of,
    authorize_one_of,
)
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.verify import VerifiedPeer
from tests.support.certs import ca, leaf

WEB, DB, PARTNER = "spiffe://a.test/web", "spiffe://a.test/db", "spiffe://b.test/web"
ROOT = ca()
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
def test_decisions(authorizer: Authorizer, uri: str, decision: Decision) -> None:
    assert decide(authorizer, uri) == decision


def test_a_denial_is_false_and_an_allowance_true() -> None:
    assert decide(authorize_id(WEB), WEB)
    assert not decide(authorize_id(WEB), DB)


@pytest.mark.parametrize("make", [authorize_id, authorize_one_of, authorize_member_of])
@pytest.mark.parametrize("text", ["", "*", "spiffe://a.test/web/", "spiffe://*/web"])
def test_a_rule_with_a_malformed_id_is_refused_when_it_is_made(make: Callable[[str], Authorizer], text: str) -> None:
    assert callable(make(WEB))
    with pytest.raises(InvalidSpiffeIdError):
        make(text)
