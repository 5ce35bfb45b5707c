"""The policies, the requests, and the CPU time of a decision on each."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import msgspec

from bench.decisions.live import LiveFigures
from bench.report import Machine
from meshtls.config.document import Place
from meshtls.policy.istio.compile import compile_policies
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.policy.istio.model import (
    Action,
    AuthorizationPolicy,
    Documents,
    MeshSettings,
    Metadata,
    Operation,
    Rule,
    Source,
    Workload,
)
from meshtls.policy.request import HttpRequest, Request
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer

__all__ = ["COUNTS", "Cell", "DecisionsReport", "measure_all"]

COUNTS = (1, 100, 10_000)
_PLACE = Place("policies.yaml", 1, "spec.rules[0]")
_US = SpiffeId.parse("spiffe://bench.test/ns/shop/sa/web")
#: So many policies are DENY, the others ALLOW: one caller may use one method and path.
_DENY_SHARE = 4
#: The row of policies that no index divides: their decisions take time for each policy, and fewer are made.
_UNKEYED, _FEWEST = "no keys", 10
#: DENY rules that do not match: for each number a source and an operation, and the path of the request.
_MISSED_DENIALS: dict[str, tuple[Callable[[int], tuple[Source, ...]], Callable[[int], Operation], str]] = {
    "template": (lambda n: (), lambda n: Operation(paths=(f"/api/{{*}}/tenant-{n}/{{*}}",)), "/api/v1/tenant-x/orders"),
    "excluded paths": (lambda n: (), lambda n: Operation(not_paths=("/health", f"/tenant-{n}/*")), "/health"),
    "domain's end": (
        lambda n: (Source(trust_domains=(f"*.tenant-{n}.test",)),),
        lambda n: Operation(methods=("GET",)),
        "/",
    ),
}


class Cell(msgspec.Struct, frozen=True):
    """One kind of decision with this many policies: CPU microseconds each, the median of the rounds.

    ``times_one`` is the median, over rounds, of the figure divided by that with one policy.
    """

    name: str
    policies: int
    microseconds: float
    times_one: float


class DecisionsReport(msgspec.Struct, frozen=True):
    """The whole report, as written to JSON."""

    started: str
    machine: Machine
    rounds: int
    decisions: int
    cells: list[Cell]
    live: LiveFigures | None = None

    def find(self, name: str, policies: int) -> Cell:
        """Raises StopIteration where it was not measured."""
        return next(one for one in self.cells if (one.name, one.policies) == (name, policies))


def measure_all(rounds: int, decisions: int, counts: Sequence[int] = COUNTS) -> list[Cell]:
    """Each kind with each number of policies, the first of which is 1, in turn within a round.

    Raises RuntimeError for a wrong decision.
    """
    calls = {count: dict(_calls(count)) for count in counts}
    taken: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for name in calls[1]:
            for count in counts:
                times = max(decisions // count, _FEWEST) if name.startswith(_UNKEYED) else decisions
                taken.setdefault((name, count), []).append(_cpu(calls[count][name], times))
    return [
        Cell(
            name,
            count,
            statistics.median(values),
            statistics.median(value / one for value, one in zip(values, taken[name, 1], strict=True)),
        )
        for (name, count), values in taken.items()
    ]


def _cpu(call: Callable[[], object], times: int) -> float:
    """CPU microseconds of one call."""
    for _ in range(times // 10):
        call()
    gc.collect()
    gc.disable()
    try:
        start = time.thread_time()
        for _ in range(times):
            call()
        return (time.thread_time() - start) * 1e6 / times
    finally:
        gc.enable()


def _calls(count: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """A hit, a miss, a denial, and others, each for a request by itself, and for one on a connection that is known."""
    policies = _compiled(count)
    last = max(count - count // _DENY_SHARE, 1) - 1
    caller = VerifiedPeer(SpiffeId.parse(f"spiffe://bench.test/ns/shop/sa/caller-{last}"), ())
    for name, http, allowed in (
        ("hit", HttpRequest("GET", "web", f"/api/{last}"), True),
        ("miss", HttpRequest("PUT", "web", f"/api/{last}"), False),
        ("deny", HttpRequest("GET", "web", "/admin/0/x"), False),
    ):
        request = Request(caller, _US, port=8080, source_ip="192.0.2.1", http=http)
        narrow = policies.narrow(request)
        for decision in (policies.evaluate(request, reads_http=True), narrow.evaluate(http)):
            if decision.allowed is not allowed or (decision.nearest is None) is not (name != "miss"):
                raise RuntimeError(f"{name} with {count} policies: wanted another decision, got {decision!r}")
        yield f"{name}, connection known", partial(narrow.evaluate, http)
        yield name, partial(policies.evaluate, request, reads_http=True)
    for name, (source, operation, path) in _MISSED_DENIALS.items():
        denying = (_policy(f"deny-{number}", Action.DENY, source(number), operation(number)) for number in range(count))
        policies, http = _policies_of(denying), HttpRequest("GET", "web", path)
        request = Request(caller, _US, port=8080, source_ip="192.0.2.1", http=http)
        narrow = policies.narrow(request)
        for decision in (policies.evaluate(request, reads_http=True), narrow.evaluate(http)):
            if not decision.allowed:
                raise RuntimeError(f"{name} with {count} policies: wanted it allowed, got {decision!r}")
        yield f"{name}, connection known", partial(narrow.evaluate, http)
        yield name, partial(policies.evaluate, request, reads_http=True)
    http = HttpRequest("GET", "web", "/api/0")
    request, policies = Request(caller, _US, port=8080, source_ip="192.0.2.1", http=http), _without_keys(count)
    narrow = policies.narrow(request)
    for decision in (policies.evaluate(request, reads_http=True), narrow.evaluate(http)):
        if decision.allowed:
            raise RuntimeError(f"{_UNKEYED} with {count} policies: wanted a denial, got {decision!r}")
    yield f"{_UNKEYED}, connection known", partial(narrow.evaluate, http)
    yield _UNKEYED, partial(policies.evaluate, request, reads_http=True)


def _compiled(count: int) -> WorkloadPolicies:
    """ALLOW policies, each for a caller, a method and a path, and DENY policies, each for a prefix of paths.

    With one policy there is one of each kind.
    """
    denying = max(count // _DENY_SHARE, 1)
    allow = (
        _policy(
            f"allow-{number}",
            Action.ALLOW,
            (Source(principals=(f"bench.test/ns/shop/sa/caller-{number}",)),),
            Operation(methods=("GET",), paths=(f"/api/{number}",)),
        )
        for number in range(max(count - count // _DENY_SHARE, 1))
    )
    deny = (
        _policy(f"deny-{number}", Action.DENY, (), Operation(paths=(f"/admin/{number}/*",)))
        for number in range(denying)
    )
    return _policies_of((*allow, *deny))


def _without_keys(count: int) -> WorkloadPolicies:
    """ALLOW policies that share what an index could divide them by: each for a part of a namespace's name, on one host,
    for all paths but some.
    """
    return _policies_of(
        _policy(
            f"allow-{number}",
            Action.ALLOW,
            (Source(namespaces=(f"*-{number}-*",)),),
            Operation(hosts=("web",), not_paths=("/internal/*",)),
        )
        for number in range(count)
    )


def _policies_of(policies: Iterable[AuthorizationPolicy]) -> WorkloadPolicies:
    return compile_policies(
        Documents(authorization_policies=tuple(policies)),
        MeshSettings(trust_domain="bench.test"),
        Workload(namespace="shop"),
    )


def _policy(name: str, action: Action, sources: tuple[Source, ...], operation: Operation) -> AuthorizationPolicy:
    return AuthorizationPolicy(
        meta=Metadata(name=name, namespace="shop", place=_PLACE),
        action=action,
        rules=(Rule(place=_PLACE, sources=sources, operations=(operation,)),),
    )
