"""What a sidecar with this file decides, listener by listener: by its policies, or by ``allow`` alone."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import msgspec

from meshtls.cli.policy.facts import Asked, Facts
from meshtls.cli.policy.tokens import token_review
from meshtls.cli.policy.words import Principals, principals_of
from meshtls.errors import ConfigError, RequestError
from meshtls.policy.decision import Decision
from meshtls.policy.istio.clauses import header_of
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.policy.istio.model import Documents, MeshSettings, MtlsMode
from meshtls.policy.request import HttpRequest, Request
from meshtls.policy.review import Mode, Review, review, review_by_allow
from meshtls.policy.workloads import workload_of
from meshtls.sidecar.gate import gate_of
from meshtls.sidecar.http.judge import ClientCertHeader
from meshtls.sidecar.http.session import http_limits
from meshtls.sidecar.policies import ListenerPolicies, PolicySet
from meshtls.sidecar.settings import InboundConfig, Protocol, SidecarConfig
from meshtls.sidecar.view import Policy, rules_of, view_of
from meshtls.spiffeid import SpiffeId
from meshtls.wire import xfcc, xff

__all__ = ["Enforced", "enforced_by", "listener_of", "policies_of"]

THE_FILE = "the sidecar's file"
#: In the place of the digest of a certificate that only the sidecar sees.
_UNKNOWN_HASH = "unknown"


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

    def review(self, facts: Facts) -> tuple[Review, tuple[str, ...]]:
        """The sidecar's verdict, and notes about headers. Raises ConfigError for a key set that can't be read, and
        RequestError for a request that is refused unjudged.
        """
        reads_http = self.reads_http(facts.reads_http, tls=facts.source is not None)
        asked = facts.asked(http_limits(self.inbound.http), reads_http=reads_http)
        request, notes = self._as_judged(asked)
        if self.policy.rules is None:
            return review_by_allow(self._by_allow, request, reads_http=reads_http, mode=self.mode), notes
        found = review(
            self.policies,
            request,
            reads_http=reads_http,
            mode=self.mode,
            providers=[one.name for one in self.config.ext_authz],
            tokens=token_review(self.policies.jwt_rules, self.config.spiffe_id),
        )
        return found, notes

    def _as_judged(self, asked: Asked) -> Asked:
        """With what the listener writes itself: the client's address, and the headers about client and caller."""
        request, notes = asked
        proxies, http = self.inbound.num_trusted_proxies, request.http
        if proxies and request.remote_ip is not None:
            raise RequestError(
                f"--remote-ip: the listener reads it of x-forwarded-for (num_trusted_proxies: {proxies}); give --header"
                f" {xff.HEADER}={request.remote_ip}, or as many addresses as there are proxies"
            )
        if http is not None:
            element = ""
            if request.source is not None:
                element = xfcc.element(str(request.destination), _UNKNOWN_HASH, str(request.source))
            headers = ClientCertHeader(self.inbound, request, element).applied(http.headers)
            if element and element in dict(headers).get(xfcc.HEADER, "") and self._asks_for(xfcc.HEADER):
                notes += (f"{xfcc.HEADER} is judged as {element}: the certificate, and so Hash, is not known",)
            if proxies:
                headers = xff.appended(headers, request.source_ip or "")
                request = replace(request, remote_ip=xff.client_of(http.headers, proxies))
            request = replace(request, http=HttpRequest(http.method, http.host, http.path, headers))
        elif proxies:
            request = replace(request, remote_ip=xff.UNKNOWN)
        return Asked(request, notes)

    def _asks_for(self, header: str) -> bool:
        policies = self.rules.documents.authorization_policies
        return any(
            header_of(one.key) == header for policy in policies for rule in policy.rules for one in rule.conditions
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
