"""Compiling is done when it is called, of plain values, so that it may be done beside the decisions."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

from meshtls.policy.istio.compile import compile_policies
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.policy.istio.model import Action, Documents, Operation, Source
from tests.unit.policy.istio.making import MESH, WORKLOAD, policy, request, rule

PATH, METHODS = Operation(paths=("/a/{*}",)), Operation(methods=("GET", "P*"), paths=("/b",))
DOCUMENTS = Documents(
    authorization_policies=(
        *(policy(rule(operation=PATH), rule(source=Source(namespaces=("front",))), name=f"a{n}") for n in range(20)),
        policy(rule(operation=METHODS), rule(operation=PATH), action=Action.DENY, name="d"),
        policy(rule(operation=PATH), action=Action.CUSTOM, name="c"),
        policy(rule(operation=PATH, when={"request.headers[x-user]": ("bob",)}), action=Action.AUDIT, name="l"),
        policy(rule(operation=METHODS), action=Action.DENY, name="s", dry_run=True),
    )
)
REQUESTS = [request(path=path, http=http) for path in ("/a/b", "/b", "/c") for http in (True, False)]
#: What only compiling has to call.
COMPILING = ("_Builder.", "CompiledRule.__init__", "CompiledRule.without_http", "_Lookup.__init__", "_rules_of")


def answers(policies: WorkloadPolicies) -> list[object]:
    found: list[object] = [policies.mode(80), policies.normalize("/a/../b"), policies.jwt_rules]
    for one in REQUESTS:
        for reads_http in (True, False):
            found += [policies.evaluate(one, reads_http=reads_http), policies.shadow(one, reads_http=reads_http)]
            found += [policies.custom(one, reads_http=reads_http), policies.audit(one, reads_http=reads_http)]
    return [str(one) for one in found]


def called_by(policies: WorkloadPolicies) -> set[str]:
    """The functions that deciding calls."""
    called: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        called.add(frame.f_code.co_qualname)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        answers(policies)
    finally:
        sys.setprofile(before)
    return called


def test_a_decision_compiles_nothing() -> None:
    called = called_by(compile_policies(DOCUMENTS, MESH, WORKLOAD))
    assert "WorkloadPolicies.evaluate" in called
    assert [one for one in called if one.startswith(COMPILING)] == []


def test_policies_are_compiled_in_a_thread_of_plain_values() -> None:
    sent = pickle.loads(pickle.dumps((DOCUMENTS, MESH, WORKLOAD)))  # noqa: S301  # our own
    assert sent == (DOCUMENTS, MESH, WORKLOAD)
    with ThreadPoolExecutor(4) as threads:
        found = [threads.submit(compile_policies, *sent) for _ in range(8)]
    own = answers(compile_policies(DOCUMENTS, MESH, WORKLOAD))
    assert len(set(own)) > 5
    assert all(answers(one.result()) == own for one in found)
