"""Istio's policies as an authorizer of the library: the files that a sidecar enforces, enforced by a service itself."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from meshtls.clock import Clock, SystemClock
from meshtls.errors import ConfigError, InvalidSpiffeIdError, RequestError
from meshtls.logs import logger
from meshtls.policy.authorizer import Target
from meshtls.policy.decision import Decision
from meshtls.policy.files import read_documents, watched_files
from meshtls.policy.istio.compile import compile_policies
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.policy.istio.fields import Value
from meshtls.policy.istio.fields_values import LABEL_KEY, LABEL_VALUE, NAMESPACE
from meshtls.policy.istio.lint import Finding, Severity, findings
from meshtls.policy.istio.model import (
    ROOT_NAMESPACE,
    AuthorizationPolicy,
    Documents,
    JwtRule,
    Labels,
    MeshOptions,
    MeshSettings,
    Normalization,
    Workload,
)
from meshtls.policy.istio.rules import compile_rules
from meshtls.policy.istio.scope import applying_policies, policy_name
from meshtls.policy.request import Request
from meshtls.policy.workloads import workload_of
from meshtls.reloading import FileWatch
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.verify import VerifiedPeer

if TYPE_CHECKING:
    from meshtls.request_auth.settings import KeySetSettings

__all__ = ["INTERVAL", "Policies", "load"]

log = logger("meshtls.policy")

#: Seconds between two looks at the files that are watched.
INTERVAL = 0.3
#: Workloads whose policies are kept compiled: a program has one, or a few.
_MOST_WORKLOADS = 64
_HIGHEST_PORT = 65535
_SNI = "connection.sni"
#: Stands for the workload where the result is the same for each.
_NOBODY = SpiffeId.parse("spiffe://trust-domain/workload")
#: A finding about plaintext, which no context of ours takes.
_OF_SIDECARS = "strict-missing"
#: Findings that only matter where no HTTP request is read.
_OF_CONNECTIONS = ("http-fields-on-tcp", "http-rule-on-tcp")


def load(
    paths: str | Path | Iterable[str | Path],
    *,
    spiffe_id: SpiffeId | str | None = None,
    namespace: str | None = None,
    labels: Mapping[str, str] | None = None,
    trust_domain: TrustDomain | str | None = None,
    trust_domain_aliases: Iterable[TrustDomain | str] = (),
    root_namespace: str = ROOT_NAMESPACE,
    path_normalization: str | Normalization = Normalization.BASE,
    port: int | None = None,
    watch: bool = False,
) -> Policies:
    """The policies in these files and directories, as an authorizer for ``listen`` and ``server_context``.

    - ``spiffe_id``: the workload's own ID. By default it is that of the SVID with which a connection is accepted.
    - ``namespace``, ``trust_domain``: by default those of the ID (``/ns/NAMESPACE/...``, or else ``default``).
    - ``labels``: what selectors match.
    - ``port``: the workload's port, where the TLS library does not tell; a rule on ports then knows it.
    - ``watch``: read the files again when they change. An invalid change changes nothing and is logged.

    Raises ConfigError with all problems: a file that can't be read, no document at all, an invalid one, a key set that
    is none; also for an argument that is none. Raises InvalidSpiffeIdError for an invalid ID or trust domain.
    """
    given = (paths,) if isinstance(paths, str | Path) else tuple(paths)
    own = SpiffeId.parse(spiffe_id) if isinstance(spiffe_id, str) else spiffe_id
    settings = PolicySettings(
        own_id=own,
        namespace=None if namespace is None else _checked("namespace", NAMESPACE, namespace),
        labels=_labels(labels),
        trust_domain=_domain(trust_domain),
        mesh=MeshOptions(
            trust_domain_aliases=tuple(one.name for one in map(_domain, trust_domain_aliases) if one is not None),
            root_namespace=_checked("root_namespace", NAMESPACE, root_namespace),
            normalization=_normalization(path_normalization),
        ),
        port=_port(port),
    )
    policies = Policies(tuple(map(Path, given)), settings, SystemClock())
    if watch:
        policies.watch()
    return policies


class PolicySettings:
    """What ``load`` was told of the workload and the mesh; None is taken from the workload's own ID."""

    def __init__(
        self,
        *,
        own_id: SpiffeId | None,
        namespace: str | None,
        labels: tuple[tuple[str, str], ...],
        trust_domain: TrustDomain | None,
        mesh: MeshOptions,
        port: int | None,
    ) -> None:
        self.own_id, self.port = own_id, port
        self._namespace, self._labels = namespace, labels
        self._trust_domain, self._mesh = trust_domain, mesh

    def mesh(self, own_id: SpiffeId) -> MeshSettings:
        return self._mesh.of(self._trust_domain or own_id.trust_domain)

    def workload(self, own_id: SpiffeId) -> Workload:
        return workload_of(own_id, self._labels, self._namespace)


class Compiled:
    """One reading of the files, compiled for each workload when it is first asked for."""

    def __init__(self, documents: Documents, settings: PolicySettings, key_sets: KeySetSettings | None) -> None:
        self.documents, self._settings, self.key_sets = documents, settings, key_sets
        self._workloads: dict[SpiffeId, WorkloadPolicies] = {}
        self._by_server_name: dict[SpiffeId, str | None] = {}
        #: What is to be said of a workload's policies where they judge connections on which no HTTP is read.
        self._of_connections: dict[SpiffeId, list[Finding]] = {}

    @property
    def workloads(self) -> tuple[SpiffeId, ...]:
        """The own IDs that were asked for."""
        return tuple(self._workloads)

    def of(self, own_id: SpiffeId) -> WorkloadPolicies:
        """Raises ConfigError for policies of this workload that have no meaning."""
        found = self._workloads.get(own_id)
        if found is None:
            mesh, workload = self._settings.mesh(own_id), self._settings.workload(own_id)
            found = compile_policies(self.documents, mesh, workload)
            _check_key_sets(found.jwt_rules, self.key_sets)
            if len(self._workloads) >= _MOST_WORKLOADS:
                self._workloads, self._by_server_name, self._of_connections = {}, {}, {}
            self._workloads[own_id] = found
            self._of_connections[own_id] = self._warn(own_id)
        return found

    def by_server_name(self, own_id: SpiffeId) -> str | None:
        """A policy in force for this workload that asks for the server name in the ClientHello. For an authorizer."""
        if own_id not in self._by_server_name:
            self._by_server_name[own_id] = next(
                (
                    policy_name(policy.meta)
                    for policy in self._applying(own_id)
                    if not policy.dry_run and any(one.key == _SNI for rule in policy.rules for one in rule.conditions)
                ),
                None,
            )
            for one in self._of_connections.pop(own_id, ()):
                log.warning("%s", one)
        return self._by_server_name[own_id]

    def _applying(self, own_id: SpiffeId) -> tuple[AuthorizationPolicy, ...]:
        mesh, workload = self._settings.mesh(own_id), self._settings.workload(own_id)
        return applying_policies(self.documents.authorization_policies, workload, mesh)

    def _warn(self, own_id: SpiffeId) -> list[Finding]:
        """Log what is suspicious. Returns what is so only where no HTTP is read."""
        documents = Documents(authorization_policies=self._applying(own_id))
        of_connections = []
        for one in findings(documents, self._settings.mesh(own_id)):
            if one.severity is Severity.INFO or one.code == _OF_SIDECARS:
                continue
            if one.code in _OF_CONNECTIONS:
                of_connections.append(one)
            else:
                log.warning("%s", one)
        return of_connections


class Policies:
    """An Authorizer by Istio's documents, and what ``PolicyMiddleware`` judges requests by. ``load`` makes one.

    As an authorizer it judges a connection on which no HTTP request is read: an ALLOW rule with a field of HTTP never
    matches, and a DENY rule loses the field and denies more, as in Istio on TCP. The addresses are not known to an
    authorizer, nor is the port to most TLS libraries: what is not known matches what denies, and nothing that allows.

    ``with`` ends the watch of the files. Safe to be used by several threads.
    """

    def __init__(self, paths: tuple[Path, ...], settings: PolicySettings, clock: Clock) -> None:
        """Raises ConfigError as ``load``."""
        self._paths, self._settings = paths, settings
        self._watched = FileWatch(lambda: watched_files(paths), clock)  # before the files are read
        self._lock = threading.Lock()
        self._watcher: tuple[int, threading.Event] | None = None
        #: Why the newest files are not in use; None while they are.
        self.complaint: str | None = None
        self._key_sets: KeySetSettings | None = None
        self._compiled = self._read((settings.own_id,) if settings.own_id is not None else ())
        for warning in self._compiled.documents.warnings:
            log.warning("%s", warning)

    @property
    def own_id(self) -> SpiffeId | None:
        """The ``spiffe_id`` that ``load`` was given."""
        return self._settings.own_id

    @property
    def documents(self) -> Documents:
        """The documents in use."""
        return self._compiled.documents

    def of(self, own_id: SpiffeId) -> WorkloadPolicies:
        """What applies to the workload with this ID, by the newest valid files. Raises ConfigError."""
        if self._watcher is not None and self._watcher[0] != os.getpid():
            self.watch()  # threads don't survive a fork
        with self._lock:
            return self._compiled.of(own_id)

    def by_server_name(self, own_id: SpiffeId) -> str | None:
        """The name of a policy of this workload that asks for ``connection.sni``, where there is one."""
        return self._compiled.by_server_name(own_id)

    def __call__(self, peer: VerifiedPeer, target: Target) -> Decision:
        """Raises ConfigError for policies that have no meaning, which denies (``policy.authorizer.evaluate``)."""
        own_id = self._settings.own_id or target.local_id
        rules = self.of(own_id)
        blind = self.by_server_name(own_id)
        if blind is not None:
            return Decision(
                False,
                f"denied: {blind} asks for {_SNI}, which an authorizer is not told; enforce it in a sidecar or in"
                " PolicyMiddleware",
            )
        port = target.port if target.port is not None else self._settings.port
        request = Request(peer, own_id, port)
        asked = next(iter(rules.custom(request, reads_http=False)), None)
        if asked is not None:
            return asked.deny(
                f"denied: {asked.policy} wants provider {asked.provider} to be asked, which an authorizer can't do"
                " within a handshake; enforce it in a sidecar or in PolicyMiddleware"
            )
        return rules.evaluate(request, reads_http=False)

    def fetch_by(self, key_sets: KeySetSettings) -> None:
        """Key sets are fetched by these settings: files with one that can't be are invalid from now on.

        Raises ConfigError if those in use are.
        """
        compiled = self._compiled
        _check_key_sets(_rules_without_files(compiled.documents), key_sets)
        for own_id in compiled.workloads:
            _check_key_sets(compiled.of(own_id).jwt_rules, key_sets)
        self._key_sets = compiled.key_sets = key_sets

    def reload(self) -> None:
        """Read the files again, now. Raises ConfigError for invalid ones; then those in use stay."""
        try:
            compiled = self._read(self._compiled.workloads)
        except ConfigError as error:
            self.complaint = "; ".join(error.problems)
            raise
        self._compiled, self.complaint = compiled, None

    def watch(self) -> None:
        """Read the files again whenever they change, in a thread, until ``close``. A valid change is in use in 1 s."""
        stopped = threading.Event()
        self._watcher = (os.getpid(), stopped)
        threading.Thread(target=self._follow, args=(stopped,), name="meshtls policies", daemon=True).start()

    def close(self) -> None:
        """Watch no more."""
        if self._watcher is not None:
            self._watcher[1].set()
            self._watcher = None

    def _read(self, workloads: Iterable[SpiffeId]) -> Compiled:
        documents = read_documents(self._paths)
        # What has no meaning is refused now, not when a workload first asks. The trust domain does not matter for it.
        mesh = self._settings.mesh(self._settings.own_id or _NOBODY)
        for _ in compile_rules(documents.authorization_policies, mesh):
            pass
        _check_key_sets(_rules_without_files(documents), self._key_sets)
        compiled = Compiled(documents, self._settings, self._key_sets)
        for own_id in workloads:
            compiled.of(own_id)
        return compiled

    def _follow(self, stopped: threading.Event) -> None:
        while not stopped.wait(INTERVAL):
            if not self._watched.changed():
                continue
            try:
                self._watched.check_regular()
                self.reload()
            except ConfigError as error:
                self.complaint = "; ".join(error.problems)
                log.error("%s; the policies in use stay", self.complaint)  # noqa: TRY400  # the message says it all
            except Exception as error:  # unforeseen: the watch goes on, or a later change would not count
                self.complaint = f"the policies could not be read again: {type(error).__name__}"
                log.exception("the policies could not be read again; those in use stay")
            else:
                log.info("policies in use: %s", self._watched)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        count = len(self.documents.authorization_policies)
        kind = "AuthorizationPolicy" if count == 1 else "AuthorizationPolicies"
        return f"<Policies {self._watched} [{count} {kind}]>"


def _rules_without_files(documents: Documents) -> tuple[JwtRule, ...]:
    """The JWT rules that are the same everywhere: a file may be on the machine of another workload."""
    given = (one for one in documents.request_authentications if not one.target_refs)
    return tuple(rule for one in given for rule in one.rules if not rule.jwks_file)


def _check_key_sets(rules: Sequence[JwtRule], settings: KeySetSettings | None) -> None:
    """Raises ConfigError. Without settings a key set may be fetched in plaintext: who fetches it is to say."""
    if rules:
        from meshtls.request_auth.authenticator import check_key_sets  # most programs have no such rules
        from meshtls.request_auth.settings import LENIENT

        check_key_sets(rules, settings or LENIENT)


def _domain(given: TrustDomain | str | None) -> TrustDomain | None:
    if given is None or isinstance(given, TrustDomain):
        return given
    if "/" in given:
        raise InvalidSpiffeIdError(f"policy.load: wanted the name of a trust domain, got {given!r}")
    return TrustDomain.parse(given)


def _checked(argument: str, kind: Value, given: object) -> str:
    try:
        if isinstance(given, str):
            return str(kind.parse(given))
    except RequestError as error:
        raise ConfigError(f"policy.load: {argument}: {error}") from error
    raise ConfigError(f"policy.load: {argument}: wanted {kind.name}, a text, got {given!r}")


def _labels(given: object) -> Labels:
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise ConfigError(f"policy.load: labels: wanted a mapping such as {{'app': 'web'}}, got {given!r}")
    return tuple(
        (_checked("labels", LABEL_KEY, key), _checked("labels", LABEL_VALUE, value)) for key, value in given.items()
    )


def _port(given: object) -> int | None:
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= _HIGHEST_PORT):
        return given
    raise ConfigError(f"policy.load: port: wanted a whole number, 1 to {_HIGHEST_PORT}, got {given!r}")


def _normalization(given: str | Normalization) -> Normalization:
    try:
        return Normalization(given)
    except ValueError:
        wanted = ", ".join(one.value for one in Normalization)
        raise ConfigError(f"policy.load: path_normalization: wanted one of {wanted}, got {given!r}") from None
