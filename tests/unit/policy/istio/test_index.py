"""A decision does not grow with the number of rules: work is counted in calls of functions, not in time."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshtls.config.document import Place
from meshtls.policy import istio
from meshtls.policy.istio.facts import ConnectionFacts, HttpFacts
from meshtls.policy.istio.index import Index
from meshtls.policy.istio.model import Action, Condition, Operation, Rule, Source
from meshtls.policy.istio.paths import Template
from meshtls.policy.istio.rules import CompiledRule, compile_rules
from meshtls.policy.request import RequestAuth
from tests.unit.policy.istio.making import MESH, policy, request, rule, source

FEW, MANY = 20, 1000
PLACE = Place("policies.yaml", 7, "spec.rules[0]")
HEADER = "request.headers[x-a]"
ENGINE = str(Path(istio.__file__).parent)


class Shape(NamedTuple):
    """``make`` gives the rule of a number from 0. ``miss`` is a request that no rule matches; ``hit`` is one that
    matches.
    """

    make: Callable[[int], Rule]
    miss: dict[str, Any]
    hit: dict[str, Any]


def to(**fields: tuple[str, ...]) -> Rule:
    return rule(operation=Operation(**fields))


def both(operation: Operation, caller: Source) -> Rule:
    return rule(operation=operation, source=caller)


def excluding(*values: str) -> Rule:
    return Rule(place=PLACE, conditions=(Condition(key=HEADER, not_values=values),))


def token(**claims: Any) -> RequestAuth:
    return RequestAuth("iss/sub", (), None, {"iss": "iss", "sub": "sub", **claims})


def mixed(number: int) -> Rule:
    """Of ten kinds, none of which most rules have."""
    value = f"v{number}"
    kinds: tuple[Rule, ...] = (
        to(paths=(f"/p{number}",)),
        to(paths=(f"/{{*}}/p{number}/{{*}}",)),
        to(hosts=(value,)),
        to(methods=(value,)),
        rule(source=source(principals=(f"a.test/{value}",))),
        rule(source=source(namespaces=(value,))),
        rule(source=source(trust_domains=(value,))),
        rule(source=source(ip_blocks=(f"192.0.{number // 256}.{number % 256}",))),
        rule(when={f"request.headers[x-{value}]": ("*",)}),
        rule(when={f"request.auth.claims[{value}]": ("*",)}),
    )
    return kinds[number % len(kinds)]


SHAPES: dict[str, Shape] = {
    "templates with a literal inside": Shape(
        lambda n: to(paths=(f"/api/{{*}}/t{n}/{{*}}",)), {"path": "/api/x/y7/z"}, {"path": "/api/x/t7/z"}
    ),
    "templates that differ in two literals": Shape(
        lambda n: to(paths=(f"/api/{{*}}/a{n % 32}/{{*}}/b{n // 32}/{{*}}",)),
        {"path": "/api/x/a3/z/b900/w"},
        {"path": "/api/x/a2/z/b0/w"},
    ),
    "templates beside a path": Shape(
        lambda n: to(paths=(f"/api/{{*}}/t{n}/{{*}}", f"/t{n}")), {"path": "/api/x/y7/z"}, {"path": "/t7"}
    ),
    "templates of one caller": Shape(
        lambda n: both(Operation(paths=(f"/{{*}}/t{n}/{{**}}",)), source(principals=("a.test/x",))),
        {"client": "a.test/x", "path": "/x/y7/z"},
        {"client": "a.test/x", "path": "/x/t7/z"},
    ),
    "templates at many depths": Shape(
        lambda n: to(paths=("/{*}" * (n % 10 + 1) + f"/t{n}/{{*}}",)), {"path": "/a/b/y7/z"}, {"path": "/a/b/t1/z"}
    ),
    "one excluded path": Shape(lambda n: to(not_paths=("/x",)), {"path": "/x"}, {"path": "/y"}),
    "one excluded template": Shape(lambda n: to(not_paths=("/x/{*}",)), {"path": "/x/y"}, {"path": "/x"}),
    "an excluded path in each of many lists": Shape(
        lambda n: to(not_paths=("/x", f"/x{n}")), {"path": "/x"}, {"path": "/y"}
    ),
    "one excluded value of a header": Shape(
        lambda n: excluding("v"), {"headers": (("x-a", "v"),)}, {"headers": (("x-a", "w"),)}
    ),
    "an excluded value of a header in each of many lists": Shape(
        lambda n: excluding("v", f"v{n}"), {"headers": (("x-a", "v"),)}, {"headers": (("x-a", "w"),)}
    ),
    "one excluded trust domain": Shape(
        lambda n: rule(source=source(not_trust_domains=("a.test",))), {"client": "a.test/x"}, {"client": "b.test/x"}
    ),
    "one host, and one excluded path": Shape(
        lambda n: to(hosts=("web",), not_paths=("/x",)), {"host": "web", "path": "/x"}, {"host": "web", "path": "/y"}
    ),
    "one template": Shape(lambda n: to(paths=("/x/{*}",)), {"path": "/x/y/z"}, {"path": "/x/y"}),
    "ends of trust domains": Shape(
        lambda n: rule(source=source(trust_domains=(f"*t{n}",))), {"client": "a.y7/x"}, {"client": "a.t7/x"}
    ),
    "beginnings of trust domains": Shape(
        lambda n: rule(source=source(trust_domains=(f"t{n}.*",))), {"client": "y7.a/x"}, {"client": "t7.a/x"}
    ),
    "claims in a claim": Shape(
        lambda n: rule(when={f"request.auth.claims[realm][role{n}]": ("*",)}),
        {"auth": token(realm={"other": "x"})},
        {"auth": token(realm={"role7": "x"})},
    ),
    "ten kinds of rules": Shape(mixed, {"path": "/none"}, {"path": "/p10"}),
}


def calls(function: Callable[[], Any]) -> tuple[Counter[str], Any]:
    """How often each function of the engine is called, and the result."""
    called: Counter[str] = Counter()

    def note(frame: FrameType, event: str, argument: object) -> None:
        # A finalizer of something else may run here as well.
        if event == "call" and frame.f_code.co_filename.startswith(ENGINE):
            called[frame.f_code.co_qualname] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        result = function()
    finally:
        sys.setprofile(before)
    return called, result


def facts_of(given: dict[str, Any]) -> tuple[ConnectionFacts, HttpFacts]:
    asked = request(**given)
    assert asked.http is not None
    return ConnectionFacts(asked), HttpFacts(asked.http, asked.auth)


def index_of(make: Callable[[int], Rule], number: int, action: Action) -> Index:
    return Index(compile_rules([policy(*map(make, range(number)), action=action)], MESH))


def work(index: Index, given: dict[str, Any], found: bool) -> tuple[int, int, int]:
    """Calls of a decision by itself, of those that are made once for a connection, and of one on a known connection."""
    connection, http = facts_of(given)
    whole, first = calls(lambda: index.first(connection, http))
    once, narrow = calls(lambda: index.narrow(connection))
    known, narrowed = calls(lambda: narrow.first(http))
    assert (first is not None) is found
    assert (narrowed.whole if found else narrowed) is first
    return whole.total(), once.total(), known.total()


@pytest.mark.parametrize("action", [Action.ALLOW, Action.DENY])
@pytest.mark.parametrize("what", SHAPES)
def test_a_decision_takes_no_more_calls_with_many_rules(what: str, action: Action) -> None:
    shape = SHAPES[what]
    few, many = (index_of(shape.make, number, action) for number in (FEW, MANY))
    for given_, found in ((shape.miss, False), (shape.hit, True)):
        for before, after in zip(work(few, given_, found), work(many, given_, found), strict=True):
            assert after <= 2 * before


def test_rules_that_differ_only_in_what_they_ask_a_connection_are_one_for_its_requests() -> None:
    """Each excludes another namespace, which no index divides: a connection goes through all of them once."""

    def make(number: int) -> Rule:
        return both(Operation(not_paths=("/x",)), source(not_namespaces=(f"n{number}",)))

    few, many = (index_of(make, number, Action.DENY) for number in (FEW, MANY))
    for path, found in (("/x", False), ("/y", True)):
        *_, before = work(few, {"path": path}, found)
        *_, after = work(many, {"path": path}, found)
        assert after == before


def test_an_exact_text_is_looked_up_without_a_call_of_its_probe() -> None:
    index = index_of(lambda n: to(paths=(f"/p{n}",)), FEW, Action.ALLOW)
    connection, http = facts_of({"path": "/p7"})
    called, found = calls(lambda: index.first(connection, http))
    assert found.rule == "7"
    assert called["_Lookup.find"] == 0
    prefixes = index_of(lambda n: to(paths=(f"/p{n}/*",)), FEW, Action.ALLOW)
    connection, http = facts_of({"path": "/p7/x"})
    called, found = calls(lambda: prefixes.first(connection, http))
    assert found.rule == "7"
    assert called["_Lookup.find"] == 1


def test_a_rule_that_matches_everything_is_tried_first() -> None:
    index = index_of(lambda n: rule() if n == FEW else to(paths=(f"/p{n}/*",)), FEW + 1, Action.DENY)
    connection, http = facts_of({"path": "/p7/x"})
    called, found = calls(lambda: index.first(connection, http))
    assert found.rule == str(FEW)
    assert called["CompiledRule.matches"] == 1
    assert {one.rule for one in index.all(connection, http)} == {"7", str(FEW)}


def test_a_rule_that_only_excludes_is_tried_before_those_that_want_something() -> None:
    def make(number: int) -> Rule:
        excludes = number == FEW
        return rule(source=source(not_namespaces=("x",)) if excludes else source(namespaces=(f"*-{number}-*",)))

    index = index_of(make, FEW + 1, Action.DENY)
    connection, http = facts_of({})
    called, found = calls(lambda: index.first(connection, http))
    assert found.rule == str(FEW)
    assert called["CompiledRule.matches"] == 1


def test_a_known_connection_is_not_asked_again() -> None:
    index = index_of(
        lambda n: both(Operation(paths=(f"/p{n}",)), source(namespaces=("front",))), number=3, action=Action.ALLOW
    )
    connection, http = facts_of({"path": "/p2"})
    narrow = index.narrow(connection)
    for first, asked in ((lambda: index.first(connection, http), 1), (lambda: narrow.first(http), 0)):
        called, found = calls(first)
        assert found.rule == "2"
        assert called["Namespaces.matches"] == asked


def near(index: Index, given_: dict[str, Any]) -> list[CompiledRule]:
    """Those that share a key with a request."""
    connection, http = facts_of(given_)
    found = [*index.near(connection, http)]
    return found[: len(found) - len(index.rules)]


@pytest.mark.parametrize(("action", "found"), [(Action.ALLOW, 0), (Action.DENY, FEW)])
def test_an_unknown_address_shares_a_key_only_with_rules_that_deny(action: Action, found: int) -> None:
    index = index_of(lambda n: rule(source=source(ip_blocks=(f"192.0.2.{n}",))), FEW, action)
    assert len(near(index, {"source_ip": None})) == found
    assert [one.rule for one in near(index, {"source_ip": "192.0.2.7"})] == ["7"]


@pytest.mark.parametrize(("host", "found"), [("web", ["20"]), ("", [])])
def test_a_condition_on_the_host_is_found_if_a_host_was_sent(host: str, found: list[str]) -> None:
    def make(number: int) -> Rule:
        return rule(when={"request.headers[host]" if number == FEW else f"request.headers[x-{number}]": ("*",)})

    index = index_of(make, FEW + 1, Action.ALLOW)
    assert [one.rule for one in near(index, {"host": host})] == found
    connection, http = facts_of({"host": host})
    assert [one.rule for one in index.all(connection, http)] == found


SEGMENTS = st.sampled_from(["{*}", "{*}", "a", "b", "c"])
TEMPLATES = st.builds(
    lambda segments, last: "/" + "/".join([*segments, *last]),
    st.lists(SEGMENTS, min_size=1, max_size=5),
    st.sampled_from([("{*}",), ("{**}",), ("{**}", "a"), ("{**}", "b", "c"), ("a", "{*}")]),
)
TEXTS = st.sampled_from(["/a", "/a/*", "*/b", "/a/b/c"])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.one_of(TEMPLATES, TEMPLATES, TEXTS), min_size=1, max_size=2), min_size=7, max_size=60),
    st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", ""]), min_size=1, max_size=7), min_size=1, max_size=5),
)
def test_the_rules_whose_templates_match_are_found(patterns: list[list[str]], paths: list[list[str]]) -> None:
    index = index_of(lambda n: to(paths=tuple(patterns[n])), len(patterns), Action.DENY)
    for segments in paths:
        path = "/" + "/".join(segments)
        wanted = {str(n) for n, several in enumerate(patterns) if any(_matches(one, path) for one in several)}
        connection, http = facts_of({"path": path})
        assert {one.rule for one in index.all(connection, http)} == wanted
        first, narrowed = index.first(connection, http), index.narrow(connection).first(http)
        assert (first.rule in wanted) if first is not None else not wanted
        assert (narrowed.whole if narrowed is not None else None) is first


def _matches(pattern: str, path: str) -> bool:
    if "{" in pattern:
        return Template(pattern).matches(path)
    if "*" not in pattern:
        return path == pattern
    return path.endswith(pattern[1:]) if pattern.startswith("*") else path.startswith(pattern[:-1])
