"""What a sidecar with this file decides, listener by listener: by its policies, or by ``allow`` alone."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from meshtls.cli.policy.tokens import token_review
from meshtls.cli.policy.words import Principals, principals_of
from meshtls.errors import ConfigError, RequestError
from meshtls.policy.decision import Decision
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.policy.istio.model import Documents, MeshSettings, MtlsMode
from meshtls.policy.request import Request
from meshtls.policy.review import Mode, Review, review, review_by_allow
from meshtls.policy.workloads import workload_of
from meshtls.sidecar.gate import gate_of
from meshtls.sidecar.policies import ListenerPolicies, PolicySet
from meshtls.sidecar.settings import InboundConfig, Protocol, SidecarConfig
from meshtls.sidecar.view import Policy, rules_of, view_of
from meshtls.spiffeid import SpiffeId

__all__ = ["Enforced", "enforced_by", "listener_of", "policies_of"]

THE_FILE = "the sidecar's file"


class Enforced(NamedTuple):
    """One inbound listener of a sidecar. ``rules`` are its policies and its ``allow``, or ``allow`` alone."""

    config: SidecarConfig
    inbound: InboundConfig
    policy: Policy
    rules: ListenerPolicies

    @property
    def policies(self) -> WorkloadPolicies:
        return self.rules.compiled

    @property
    def mode(self) -> Mode:
        """The mode of the PeerAuthentications, unless the sidecar's file has another. STRICT where there are none."""
        mode = MtlsMode(self.inbound.mode.value)
        found = (MtlsMode.STRICT, None) if self.policy.rules is None else self.policies.mode(self.inbound.app.port)
        return found if found[0] is mode else (mode, THE_FILE)

    def reads_http(self, http: bool, *, tls: bool) -> bool:
        """Whether what comes is judged as HTTP requests. ``http``: whether it is HTTP; ``tls``: within TLS, which an
        auto listener with mode DISABLE takes for another protocol.
        """
        seen = http and not (tls and self.mode[0] is MtlsMode.DISABLE)
        return self.inbound.protocol is Protocol.HTTP or (self.inbound.protocol is Protocol.AUTO and seen)

    def review(self, request: Request, *, http: bool) -> Review:
        """The sidecar's verdict. ``http``: whether it is HTTP. Raises ConfigError for a key set that can't be read."""
        reads_http = self.reads_http(http, tls=request.peer is not None)
        if self.policy.rules is None:
            return review_by_allow(self._by_allow, request, reads_http=reads_http, mode=self.mode)
        return review(
            self.policies,
            request,
            reads_http=reads_http,
            mode=self.mode,
            providers=[one.name for one in self.config.ext_authz],
            tokens=token_review(self.policies.jwt_rules, self.config.spiffe_id),
        )

    def _by_allow(self, request: Request) -> Decision:
        """What the listener's gate says; why it denies also as of an ALLOW policy."""
        decision = gate_of(self.policy).judge(request)
        if decision.allowed:
            return decision
        missed = self.policies.evaluate(request, reads_http=False)
        return Decision.of(decision.verdict, decision.reason, clause=missed.clause, nearest=missed.nearest)

    def principals(self) -> Principals:
        given = _given(self.config)
        return principals_of(self.rules.documents, given.mesh, given.workload)

    def allowing(self, caller: SpiffeId) -> Enforced | None:
        """This listener with one more ID in its ``allow``; None if it has no such list."""
        if not self.inbound.allow_given or self.mode[0] is MtlsMode.DISABLE:
            return None
        inbound = msgspec.structs.replace(self.inbound, allow=(*self.inbound.allow, caller))
        at = self.config.inbound.index(self.inbound)
        others = (*self.config.inbound[:at], inbound, *self.config.inbound[at + 1 :])
        return _listeners(msgspec.structs.replace(self.config, inbound=others))[at]


def policies_of(config: SidecarConfig) -> PolicySet:
    """Raises ConfigError for a file that names none."""
    if config.policies is None:
        raise ConfigError(
            f"sidecar {config.name}: policies: wanted the files of policies, got none; its allow lists decide, which"
            " `meshtls sidecar validate` shows and `meshtls policy explain` judges by"
        )
    return config.policies


def enforced_by(config: SidecarConfig) -> list[Enforced]:
    """The inbound listeners, in the order of the file. Raises ConfigError, also for a file without policies."""
    policies_of(config)
    return _listeners(config)


def listener_of(config: SidecarConfig, port: int | None) -> Enforced:
    """The listener before this port of the app; the only one, if no port is given. Raises RequestError."""
    listeners = _listeners(config)
    chosen = [one for one in listeners if port in (None, one.inbound.app.port)]
    if len(chosen) != 1:
        ports = ", ".join(str(one.inbound.app.port) for one in listeners) or "none"
        raise RequestError(
            f"--port: wanted the port of the app behind one inbound listener of sidecar {config.name}, one of {ports},"
            f" got {'none' if port is None else port}"
        )
    return chosen[0]


def _listeners(config: SidecarConfig) -> list[Enforced]:
    given = _given(config)
    return [
        Enforced(config, inbound, policy, policy.rules or rules_of(given, inbound))
        for inbound, policy in zip(config.inbound, view_of(config).policies, strict=True)
    ]


def _given(config: SidecarConfig) -> PolicySet:
    """The file's policies, which may be none."""
    if config.policies is not None:
        return config.policies
    mesh = MeshSettings(trust_domain=config.spiffe_id.trust_domain.name)
    return PolicySet(documents=Documents(), mesh=mesh, workload=workload_of(config.spiffe_id))
