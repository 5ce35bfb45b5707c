"""What a clause says of a request: what was wanted, and what came."""

from __future__ import annotations

from typing import Any

import pytest

from meshtls.policy.istio.model import Rule
from meshtls.policy.request import RequestAuth
from tests.unit.policy.istio.making import compiled, policy, request, rule, source

SUBJECT = rule(source=source(request_principals=("iss/x",)))
HEADER = rule(when={"request.headers[x-a]": ("z",)})
TOKEN = RequestAuth("iss/sub", (), None, {"iss": "iss", "sub": "sub"})
SVID = RequestAuth("iss/sub", (), None, {"iss": "iss", "sub": "sub"}, "spiffe://a.test/y")

CAME: dict[str, tuple[Rule, dict[str, Any], str]] = {
    "no token": (SUBJECT, {}, "source.requestPrincipals: wanted iss/x, got no verified token"),
    "a token": (SUBJECT, {"auth": TOKEN}, "source.requestPrincipals: wanted iss/x, got iss/sub"),
    "a JWT-SVID": (SUBJECT, {"auth": SVID}, "source.requestPrincipals: wanted iss/x, got iss/sub or spiffe://a.test/y"),
    "no header": (HEADER, {}, "when request.headers[x-a]: wanted z, got no such header"),
    "a header": (HEADER, {"headers": (("x-a", "p"),)}, "when request.headers[x-a]: wanted z, got p"),
    "two headers of a name": (
        HEADER,
        {"headers": (("x-a", "p"), ("x-a", "q"))},
        "when request.headers[x-a]: wanted z, got p, q, each of which counts",
    ),
}


@pytest.mark.parametrize("what", CAME)
def test_a_clause_that_fails_says_what_was_wanted_and_what_came(what: str) -> None:
    wanted, facts, text = CAME[what]
    assert compiled(policy(wanted)).evaluate(request(**facts), reads_http=True).clause == text
