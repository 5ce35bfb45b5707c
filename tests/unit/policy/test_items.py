"""Each item of Istio's semantics, and each addition to the list, has tests that name it: none without a twin.

A test names an item in its own name (``test_item_7_...``) or in that of a row of its table (``"item 7: ..."``). The
additions have no numbers; ``ADDITIONS`` says which rows and tests are theirs.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]
#: What each item is about, in the order of the list. It is an index, and not the list.
ITEMS = {
    1: "mesh, namespace and workload, and PERMISSIVE without a policy",
    2: "the oldest of several PeerAuthentications",
    3: "selectors in the root namespace, and empty ones",
    4: "modes of ports",
    5: "what each mode takes",
    6: "detection is bounded, and can be left out for a port",
    7: "the order of CUSTOM, DENY, ALLOW and AUDIT",
    8: "an empty spec, an empty rule, no rules",
    9: "and, or and not in a rule",
    10: "namespaces and selectors of an AuthorizationPolicy",
    11: "dry runs, and the names of rules",
    12: "fields of HTTP where none is read",
    13: "plaintext has no identity",
    14: "exact, prefix, suffix and presence",
    15: "principals, namespaces and service accounts",
    16: "aliases of the trust domain",
    17: "addresses",
    18: "hosts, methods and ports",
    19: "paths and their templates",
    20: "normalization of paths",
    21: "the keys of when",
    22: "DestinationRules",
    23: "every denial is explained",
    24: "a change is checked against live connections",
}
SEMANTICS, PARSE = "unit/policy/istio/test_semantics.py", "unit/policy/istio/test_parse.py"
LINT, PATHS = "unit/policy/istio/test_lint.py", "unit/policy/istio/test_paths.py"
CONNECTIONS = "integration/sidecar/test_policy_connections.py"
#: By addition: where it is tested, and the names there of functions and rows.
ADDITIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "21: source.trustDomain": {
        SEMANTICS: (
            "item 21: source.trustDomain",
            "item 21: source.trustDomain with a path",
            "item 21: source.trustDomain with another path",
        )
    },
    "21: keys of Envoy's filters, and of v1alpha1": {PARSE: ("a key of Envoy's", "the key {key} of v1alpha1")},
    "trustDomains and notTrustDomains": {
        SEMANTICS: (
            "additions: a trust domain",
            "additions: a longer trust domain is another",
            "additions: a trust domain's prefix",
            "additions: a prefix does not cross a slash",
            "additions: a trust domain's suffix",
            "additions: a suffix does not cross a slash",
            "additions: any trust domain",
            "additions: our trust domain has aliases",
        ),
        PARSE: ("a trust domain with a path", "a star at both ends"),
    },
    "15: the form of serviceAccounts, and what may not stand beside them": {
        PARSE: (
            "a service account with a star",
            "a service account that is too long",
            "too many service accounts",
            "service accounts beside namespaces",
        )
    },
    "15: serviceAccounts and namespaces match any trust domain": {
        SEMANTICS: ("item 15: of any trust domain", "item 15: with trustDomains, of one"),
        LINT: ("namespaces with a federated partner", "service accounts with a federated partner"),
    },
    "15: stars anywhere in namespaces": {
        SEMANTICS: ("item 15: a namespace with stars anywhere", "item 15: a part of a namespace is none")
    },
    "14: no character is one of a regular expression": {
        SEMANTICS: (
            "item 14: a dot is a dot",
            "item 14: a plus is a plus",
            "item 14: a bracket is no set",
            "item 14: a dot in a principal's suffix is a dot",
            "item 14: a dot in a namespace is a dot",
            "item 14: a namespace with a dot",
            "item 14: a dot in a service account is a dot",
        )
    },
    "8, 9: how many rules, sources and targets": {PARSE: ("too many rules", "too many sources", "too many targets")},
    "8, 9: selector and targetRefs": {
        PARSE: ("a selector with targets", "a target of another kind"),
        SEMANTICS: ("item 10: targetRefs are for gateways", "item 10: a selector that matches"),
        LINT: ("targets of gateways",),
    },
    "11: the annotation is read as Go reads it": {
        PARSE: ("test_a_dry_run_is_what_go_reads_as_true_and_all_else_is_in_force",),
        LINT: ("a dry run that can't be read", "a dry run of another kind"),
    },
    "11: a dry-run ALLOW alone allows, and says that it would deny": {
        SEMANTICS: (
            "item 11: a dry-run ALLOW is no ALLOW policy",
            "test_item_11_a_dry_run_allow_alone_allows_and_would_deny",
        )
    },
    "12: a DENY of only HTTP denies everything on TCP, and the warning says what ambient does": {
        SEMANTICS: (
            "item 12: a DENY of only HTTP denies everything",
            "item 12: a DENY of notPaths denies everything",
            "item 12: the other fields of a DENY count",
        ),
        LINT: ("a DENY rule of HTTP alone", "a DENY condition on HTTP"),
    },
    "7: several CUSTOM providers": {SEMANTICS: ("test_item_7_custom_names_each_policy_that_matches",)},
    "10: a file with an invalid rule is refused whole": {
        PARSE: (
            "test_all_problems_of_all_files_are_reported_in_their_order",
            "test_an_aliased_problem_is_reported_and_nothing_is_made_of_it",
        )
    },
    "19: {**} is the last operator, and what may stand beside one": {
        PARSE: ("a template that goes on after {**}", "a template with a star", "a template that is not one"),
        SEMANTICS: ("item 19: {**} in between",),
    },
    "better: a connection is judged before the app is dialled": {
        CONNECTIONS: (
            "test_a_connection_is_judged_before_the_app_is_dialled",
            "test_plaintext_is_judged_too_and_the_app_not_dialled_for_it_in_vain",
        )
    },
    "better: a CUSTOM policy of only HTTP denies on TCP": {
        SEMANTICS: ("test_item_7_custom_on_tcp_with_a_field_of_http_is_refused",)
    },
    "better: a principal is the one URI of an SVID": {
        "unit/svid/test_leaf_rules.py": ("a DNS name only", "two SPIFFE IDs"),
        SEMANTICS: ("item 15: a principal is the ID without its scheme", "item 15: not with it"),
    },
}


@cache
def names_in(file: Path) -> frozenset[str]:
    """Of its functions, and the texts in it; an f-string is as it is written."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            found.add(ast.unparse(node)[2:-1])
    return frozenset(found)


def named() -> Iterator[tuple[int, str]]:
    """Each item with a function or a row that names it."""
    for file in sorted(TESTS.rglob("test_*.py")):
        for name in names_in(file) if file != Path(__file__) else ():
            found = re.fullmatch(r"(?:test_)?item[ _]([0-9]+)(?:: |_).+", name)
            if found is not None:
                yield int(found[1]), name


def test_each_item_is_named_by_at_least_two_tests() -> None:
    found = defaultdict(set)
    for item, name in named():
        found[item].add(name)
    assert list(ITEMS) == list(range(1, 25))
    assert {item: len(found[item]) for item in ITEMS if len(found[item]) < 2} == {}
    assert set(found) == set(ITEMS)


@pytest.mark.parametrize("addition", ADDITIONS)
def test_the_tests_of_each_addition_exist(addition: str) -> None:
    by_file = ADDITIONS[addition]
    missing = {file: [one for one in names if one not in names_in(TESTS / file)] for file, names in by_file.items()}
    assert {file: names for file, names in missing.items() if names} == {}
    assert all(by_file.values())
