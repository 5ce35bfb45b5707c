"""The providers of CUSTOM policies are asked one after the other, and each has to allow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshtls.ext_authz.answer import ExtAuthzAnswer, HeaderChanges
from meshtls.ext_authz.asking import Asked, Denied, ask, deny_if_unasked
from meshtls.policy.decision import DENIED_TEXT, Decision, PolicyVerdict
from meshtls.policy.istio.evaluate import CustomMatch
from meshtls.policy.request import HttpRequest, Request
from meshtls.spiffeid import SpiffeId
from meshtls.wire.http import Refuse

HTTP = HttpRequest("GET", "b", "/", (("a", "1"),))
REQUEST = Request(None, SpiffeId.parse("spiffe://example.org/b"), 8080, "127.0.0.1", http=HTTP)
CONNECTION = replace(REQUEST, http=None)
ONE, TWO = CustomMatch("one", "ns[a]-policy[p]", "0"), CustomMatch("two", "ns[a]-policy[q]", "1")
ALLOWS = ExtAuthzAnswer(
    allowed=True,
    reason="",
    headers=(("x-seen", "yes"),),
    upstream=HeaderChanges(set=(("by", "one"),)),
)
DENIES = ExtAuthzAnswer(allowed=False, reason="it said no", status=429, body="later\n", headers=(("retry", "9"),))
UNANSWERABLE = Decision.of(PolicyVerdict.DENY, "denied: it has fields of HTTP", policy=TWO.policy, rule=TWO.rule)


class Providers:
    """Answers by name, and remembers what each was asked about."""

    def __init__(self, **answers: ExtAuthzAnswer) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Request]] = []

    async def check(self, request: Request, provider: str) -> ExtAuthzAnswer:
        self.asked.append((provider, request))
        return self.answers[provider]


async def test_each_provider_is_asked_about_the_request_as_those_before_changed_it() -> None:
    providers = Providers(one=ALLOWS, two=ALLOWS)
    changed = replace(REQUEST, http=HttpRequest("GET", "b", "/", (("a", "1"), ("by", "one"))))
    assert await ask((ONE, TWO), REQUEST, providers.check) == Asked(
        changed, frozenset({ONE.question, TWO.question}), (("x-seen", "yes"), ("x-seen", "yes"))
    )
    assert providers.asked == [("one", REQUEST), ("two", changed)]


async def test_a_connection_has_no_headers_to_change() -> None:
    providers = Providers(one=ALLOWS)
    found = await ask((ONE,), CONNECTION, providers.check)
    assert found == Asked(CONNECTION, frozenset({ONE.question}), (("x-seen", "yes"),))


async def test_without_a_match_no_provider_is_asked() -> None:
    assert await ask((), REQUEST, Providers().check) == Asked(REQUEST, frozenset(), ())


@pytest.mark.parametrize(
    ("two", "answer", "expected", "asked"),
    [
        (
            TWO,
            DENIES,
            Denied(
                Decision.of(
                    PolicyVerdict.DENY, "denied by ns[a]-policy[q]: it said no", policy=TWO.policy, rule=TWO.rule
                ),
                Refuse(429, "later\n", (("retry", "9"),)),
            ),
            ["one", "two"],
        ),
        (TWO._replace(refusal=UNANSWERABLE), ALLOWS, Denied(UNANSWERABLE, Refuse(403, DENIED_TEXT)), ["one"]),
    ],
    ids=["the provider denies", "it can't be asked"],
)
async def test_after_a_denial_no_other_provider_is_asked(
    two: CustomMatch, answer: ExtAuthzAnswer, expected: Denied, asked: list[str]
) -> None:
    three = CustomMatch("three", "ns[a]-policy[r]", "0")
    providers = Providers(one=ALLOWS, two=answer, three=ALLOWS)
    assert await ask((ONE, two, three), REQUEST, providers.check) == expected
    assert [name for name, _ in providers.asked] == asked


@pytest.mark.parametrize(
    "allowed_by", [frozenset[tuple[str, str]](), frozenset({ONE.question}), frozenset({("x", "two")})]
)
def test_a_request_older_than_a_custom_policy_is_denied(allowed_by: frozenset[tuple[str, str]]) -> None:
    text = "denied: ns[a]-policy[q] is newer than the request, and its provider was not asked"
    denial = Decision.of(PolicyVerdict.DENY, text, policy="ns[a]-policy[q]", rule="1")
    assert deny_if_unasked((TWO,), allowed_by, "request") == denial


def test_a_request_that_every_provider_allowed_is_not_denied_as_older() -> None:
    assert deny_if_unasked((ONE, TWO), frozenset({ONE.question, TWO.question}), "request") is None
