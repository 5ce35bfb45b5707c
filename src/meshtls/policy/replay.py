"""Recorded traffic, judged by proposed policies: whose verdict would change. Pure.

Each line is judged by itself; what is kept are groups of lines, in bounded memory, however long the log is. On a port
where HTTP requests are recorded they are judged, and of its connections only those that were denied as a whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from enum import Enum
from functools import cached_property

import msgspec

from meshtls.errors import ConfigError
from meshtls.policy.decision import Decision, PolicyVerdict
from meshtls.policy.istio.compile import compile_policies
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.policy.istio.model import Action, Documents, Labels, MeshOptions, MtlsMode
from meshtls.policy.istio.paths import strip_query
from meshtls.policy.istio.scope import applying_policies, unselected
from meshtls.policy.path_template import path_template
from meshtls.policy.recorded import Recorded
from meshtls.policy.request import Request
from meshtls.policy.review import Mode, Review, review
from meshtls.policy.unrecorded import bounds
from meshtls.policy.workloads import workload_of
from meshtls.spiffeid import SpiffeId

__all__ = ["PLAINTEXT", "Caller", "Change", "Group", "Proposal", "Replay", "Report"]

PLAINTEXT = "plaintext"
OTHERS = "(others)"
#: Groups, and plaintext callers, that are told apart; the rest is counted together.
_MOST_GROUPS = 10_000
#: Paths of one destination and method that are told apart.
_MOST_PATHS = 100
#: Methods of all destinations whose paths are told apart.
_MOST_METHODS = 1000
_MOST_DESTINATIONS = 1000
_MOST_REMEMBERED = 50_000
#: Policies that a reason names.
_MOST_NAMED = 5
_STRICT: Mode = (MtlsMode.STRICT, None)


class Change(Enum):
    """What becomes of a recorded verdict. The value is the report's key.

    UNCERTAIN: it depends on what the log does not have, on labels that were not given, or on a CUSTOM policy's
    provider. DRY_RUN_DENIED and DRY_RUN_ALLOWED: it stays, and would change if the dry-run policies were in force.
    """

    DENIED = "newly_denied"
    ALLOWED = "newly_allowed"
    UNCERTAIN = "uncertain"
    DRY_RUN_DENIED = "dry_run_denied"
    DRY_RUN_ALLOWED = "dry_run_allowed"


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """The policies, and what an access log does not say of the mesh and of the workloads in it.

    ``strict``: every port takes mutual TLS only, whatever the PeerAuthentications say.
    """

    documents: Documents
    labels: Mapping[SpiffeId, Labels] = {}
    mesh: MeshOptions = MeshOptions()
    strict: bool = False


class Group(msgspec.Struct, kw_only=True):
    """Lines with the same change. ``port`` and ``method`` are None where there is none, ``path`` is a template.

    ``reason`` is that of the first line of the group; ``last`` is when the last one was recorded.
    """

    change: Change
    source: str
    destination: str
    port: int | None
    method: str | None
    path: str | None
    policy: str | None
    rule: str | None
    clause: str | None
    reason: str
    count: int = 0
    last: str = ""


class Caller(msgspec.Struct, kw_only=True):
    """Plaintext that was allowed: it stands in the way of STRICT. ``mode`` is that of the proposed policies."""

    destination: str
    port: int | None
    address: str
    mode: str
    count: int = 0
    last: str = ""


class Report(msgspec.Struct, kw_only=True):
    """What a replay found. ``unselected``: policies with a selector, and a workload whose labels are not known."""

    judged: int
    unchanged: int
    first: str
    last: str
    groups: tuple[Group, ...]
    plaintext_callers: tuple[Caller, ...]
    unselected: tuple[tuple[str, str], ...]

    def of(self, change: Change) -> tuple[Group, ...]:
        return tuple(one for one in self.groups if one.change is change)

    @property
    def changes(self) -> bool:
        """Whether a verdict changes, or may change."""
        return any(one.change in (Change.DENIED, Change.ALLOWED, Change.UNCERTAIN) for one in self.groups)


class _Kind(Enum):
    """As what a line was judged. A connection on a port with HTTP is one of its HTTP_CONNECTIONs, not of TCP."""

    REQUEST = "HTTP request"
    TCP = "connection"
    HTTP_CONNECTION = "connection for HTTP requests"


class _Judgement(msgspec.Struct, frozen=True):
    change: Change | None
    decision: Decision | None


_UNCHANGED = _Judgement(None, None)
_Port = tuple[SpiffeId, int | None]
_Key = tuple[
    _Kind, Change, SpiffeId | None, SpiffeId | None, int | None, str | None, str | None, str | None, str | None
]


class Replay:
    """Judges recorded requests by proposed policies. ``add`` each line, then ``report``."""

    def __init__(self, proposal: Proposal) -> None:
        self._proposal = proposal
        self._destinations: dict[SpiffeId, _Destination] = {}
        self._remembered: dict[object, _Judgement] = {}
        self._groups: dict[_Key, Group] = {}
        self._paths: defaultdict[tuple[SpiffeId, str], set[str]] = defaultdict(set)
        self._callers: dict[tuple[_Kind, SpiffeId, int | None, str], Caller] = {}
        self._judged: defaultdict[tuple[_Kind, _Port], list[int]] = defaultdict(lambda: [0, 0])
        self._http_ports: set[_Port] = set()
        self._unselected: dict[tuple[str, str], None] = {}
        self._first = self._last = ""

    def add(self, line: Recorded) -> None:
        """Judge one line. Raises ConfigError for policies that can't be compiled for its destination."""
        self._first = min(self._first or line.time, line.time)
        self._last = max(self._last, line.time)
        request = line.request
        port = (request.destination, request.port)
        if request.http is not None:
            self._http_ports.add(port)
            kinds: tuple[_Kind, ...] = (_Kind.REQUEST,)
        else:
            # Which of the two it is, is known at the end of the log.
            kinds = (_Kind.TCP,) if line.allowed else (_Kind.TCP, _Kind.HTTP_CONNECTION)
        for kind in kinds:
            found = self._judgement(kind, line)
            counts = self._judged[kind, port]
            counts[0] += 1
            counts[1] += found.change is None
            if found.change is not None and found.decision is not None:
                self._count(kind, found.change, found.decision, line)
        if request.peer is None and line.allowed:
            self._count_caller(kinds[0], line)

    def report(self) -> Report:
        """The groups with the most lines first."""
        kept = [group for key, group in self._groups.items() if self._is_kept(key[0], (key[3], key[4]))]
        callers = [one for key, one in self._callers.items() if self._is_kept(key[0], (key[1], key[2]))]
        counts = [count for (kind, port), count in self._judged.items() if self._is_kept(kind, port)]
        return Report(
            judged=sum(judged for judged, _ in counts),
            unchanged=sum(unchanged for _, unchanged in counts),
            first=self._first,
            last=self._last,
            groups=tuple(sorted(kept, key=lambda one: -one.count)),
            plaintext_callers=tuple(sorted(callers, key=lambda one: -one.count)),
            unselected=tuple(self._unselected),
        )

    def _is_kept(self, kind: _Kind, port: tuple[SpiffeId | None, int | None]) -> bool:
        return kind is _Kind.REQUEST or (kind is _Kind.HTTP_CONNECTION) == (port in self._http_ports)

    def _judgement(self, kind: _Kind, line: Recorded) -> _Judgement:
        request = line.request
        key = (kind, line.allowed, request.source, request.destination, request.port, request.http, request.source_ip)
        found = self._remembered.get(key)
        if found is None:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            found = self._remembered[key] = self._destination(request.destination).judge(kind, request, line.allowed)
        return found

    def _destination(self, spiffe_id: SpiffeId) -> _Destination:
        found = self._destinations.get(spiffe_id)
        if found is None:
            if len(self._destinations) >= _MOST_DESTINATIONS:
                raise ConfigError(
                    f"access log: wanted at most {_MOST_DESTINATIONS} destinations, got more; replay fewer files"
                )
            found = self._destinations[spiffe_id] = _Destination(self._proposal, spiffe_id)
            for name in found.unselected[: _MOST_GROUPS - len(self._unselected)]:
                self._unselected[name, str(spiffe_id)] = None
        return found

    def _count(self, kind: _Kind, change: Change, decision: Decision, line: Recorded) -> None:
        request, http = line.request, line.request.http
        destination: SpiffeId | None = request.destination
        method = None if http is None else http.method
        path = None if http is None else self._template(request.destination, http.method, http.path)
        key: _Key = (
            kind, change, request.source, destination, request.port, method, path, decision.policy, decision.rule
        )  # fmt: skip
        if key not in self._groups and len(self._groups) >= _MOST_GROUPS:
            key = (kind, change, None, None, None, OTHERS, None, None, None)
        group = self._groups.get(key)
        if group is None:
            others = key[3] is None
            nearest = decision.nearest
            group = self._groups[key] = Group(
                change=change,
                source=OTHERS if others else str(request.source or PLAINTEXT),
                destination=OTHERS if others else str(destination),
                port=key[4],
                method=None if others else method,
                path=key[6],
                policy=None if others else decision.policy or (nearest.policy if nearest else None),
                rule=None if others else decision.rule or (nearest.rule if nearest else None),
                clause=None if others else decision.clause,
                reason=f"more than {_MOST_GROUPS} groups" if others else decision.reason,
            )
        group.count += 1
        group.last = max(group.last, line.time)

    def _template(self, destination: SpiffeId, method: str, path: str) -> str:
        template = path_template(strip_query(path))
        if (destination, method) not in self._paths and len(self._paths) >= _MOST_METHODS:
            return OTHERS
        seen = self._paths[destination, method]
        if template not in seen:
            if len(seen) >= _MOST_PATHS:
                return OTHERS
            seen.add(template)
        return template

    def _count_caller(self, kind: _Kind, line: Recorded) -> None:
        request = line.request
        key = (kind, request.destination, request.port, request.source_ip or "unknown")
        if key not in self._callers and len(self._callers) >= _MOST_GROUPS:
            key = (*key[:3], OTHERS)
        caller = self._callers.get(key)
        if caller is None:
            mode, _ = self._destination(request.destination).mode(request.port)
            caller = self._callers[key] = Caller(destination=str(key[1]), port=key[2], address=key[3], mode=mode.value)
        caller.count += 1
        caller.last = max(caller.last, line.time)


class _Destination:
    """The proposed policies of one destination."""

    def __init__(self, proposal: Proposal, spiffe_id: SpiffeId) -> None:
        self._proposal, self._mesh = proposal, proposal.mesh.of(spiffe_id.trust_domain)
        self._workload = workload_of(spiffe_id, proposal.labels.get(spiffe_id, ()))
        self._policies = self._compiled(proposal.documents)
        missed: tuple[tuple[str, Labels], ...] = ()
        if spiffe_id not in proposal.labels:
            missed = tuple(unselected(proposal.documents, self._workload, self._mesh))
        #: The policies that may be for it, if its labels are not known.
        self.unselected = tuple(name for name, _ in missed)
        every_label = tuple(label for _, selector in missed for label in selector)
        self._selected_by_all = msgspec.structs.replace(self._workload, labels=every_label)
        applying = applying_policies(proposal.documents.authorization_policies, self._workload, self._mesh)
        #: A dry run of CUSTOM has an answer of its own, and proposes no verdict.
        self._proposes = any(one.dry_run and one.action in (Action.ALLOW, Action.DENY) for one in applying)

    def _compiled(self, documents: Documents) -> WorkloadPolicies:
        return compile_policies(documents, self._mesh, self._workload)

    @cached_property
    def _bounds_of_requests(self) -> tuple[WorkloadPolicies, ...]:
        return self._bounds(http=True)

    @cached_property
    def _bounds_of_connections(self) -> tuple[WorkloadPolicies, ...]:
        return self._bounds(http=False)

    def _bounds(self, *, http: bool) -> tuple[WorkloadPolicies, ...]:
        found = bounds(self._proposal.documents, http=http)
        return () if found is None else tuple(map(self._compiled, found))

    @cached_property
    def _with_all(self) -> WorkloadPolicies:
        """As if it had the labels of every selector."""
        return compile_policies(self._proposal.documents, self._mesh, self._selected_by_all)

    def mode(self, port: int | None) -> Mode:
        return _STRICT if self._proposal.strict else self._policies.mode(port)

    def judge(self, kind: _Kind, request: Request, allowed: bool) -> _Judgement:
        reads_http = kind is not _Kind.TCP
        mode = self.mode(request.port)
        found = review(self._policies, request, reads_http=reads_http, mode=mode)
        decision = found.decision
        unsure = self._doubt_of_labels(found, request, reads_http, allowed)
        if unsure is None:
            unsure = self._doubt(found, request, reads_http)
        if unsure is not None:
            return _Judgement(Change.UNCERTAIN, unsure)
        if decision.allowed != allowed:
            return _Judgement(Change.ALLOWED if decision.allowed else Change.DENIED, decision)
        proposed = found.shadow[0] if self._proposes and found.shadow else None
        if proposed is not None and proposed.allowed != decision.allowed:
            return _Judgement(Change.DRY_RUN_ALLOWED if proposed.allowed else Change.DRY_RUN_DENIED, proposed)
        return _UNCHANGED

    def _doubt_of_labels(self, found: Review, request: Request, reads_http: bool, allowed: bool) -> Decision | None:
        """Why it depends on labels that are not known: the verdict changes without the policies that have a selector,
        or with all of them. None if it does neither.
        """
        if not self.unselected:
            return None
        by = found.decision
        if by.allowed == allowed:
            mode = _STRICT if self._proposal.strict else self._with_all.mode(request.port)
            by = review(self._with_all, request, reads_http=reads_http, mode=mode).decision
            if by.allowed == allowed:
                return None
        some = ", ".join(self.unselected[:_MOST_NAMED]) + (" ..." if len(self.unselected) > _MOST_NAMED else "")
        return Decision.of(
            PolicyVerdict.DENY,
            lambda: (
                f"uncertain: {some} may apply, by a selector, and the labels of {request.destination} are not"
                f" known; give them with --labels. {'Without' if by is found.decision else 'With'} them: {by.reason}"
            ),
            policy=self.unselected[0],
            clause="selector: the workload's labels are not known; give them with --labels",
        )

    def _doubt(self, found: Review, request: Request, reads_http: bool) -> Decision | None:
        """Why the verdict can't be known; None if it can."""
        if found.unseen is not None and found.decision.allowed:
            return Decision(
                False,
                "uncertain: the port is DISABLE, where no TLS ends, and this caller sent TLS. It would be allowed as"
                " plaintext, and its TLS passed to the app as it is: only an app that speaks TLS itself can serve it",
            )
        if found.decision.verdict is PolicyVerdict.NEEDS_HTTP:
            return Decision(False, "uncertain: each of its HTTP requests would be judged, and none was recorded")
        edges = self._bounds_of_requests if request.http is not None else self._bounds_of_connections
        verdicts = [review(one, request, reads_http=reads_http, mode=found.mode).decision for one in edges]
        if any(one.allowed != found.decision.allowed for one in verdicts):
            other = next(one for one in verdicts if one.allowed != found.decision.allowed)
            by = other if not other.allowed else found.decision
            return Decision.of(
                PolicyVerdict.DENY,
                "uncertain: it depends on a header, a token, a server name or an address that the access log does not"
                f" have. Without what the rules ask for: {found.decision.reason}",
                policy=by.policy,
                rule=by.rule,
                clause=lambda: by.clause,
            )
        if found.decision.allowed and found.custom:
            asked = found.custom[0]
            return Decision.of(
                PolicyVerdict.DENY,
                f"uncertain: {asked.policy} would ask the provider {asked.provider}, which can't be asked here",
                policy=asked.policy,
                rule=asked.rule,
            )
        return None
