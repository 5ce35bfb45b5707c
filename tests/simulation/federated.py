"""Federation with a second trust domain: what breaks, what the operators command, and what must hold meanwhile.

Our servers fetch the partner's bundle, and the workloads whose entries federate with it verify its workload.
"""

from __future__ import annotations

import functools
import random
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from cryptography.x509 import Certificate

from meshtls.bundle import TrustBundle
from meshtls.errors import PeerError
from meshtls.server.operations import authorities, bundles
from meshtls.server.operations.federation import create_relation, delete_relation, refresh_relation
from meshtls.svid.context import X509Context
from meshtls.svid.verify import VerifiedPeer
from meshtls.svid.x509 import format_serial, key_id_of
from tests.simulation.checks import BOUND, Checks, ViolationError
from tests.simulation.disk import KeptGuard, StoreFile
from tests.simulation.machines import TD, ServerMachine, Setting, WorkloadMachine
from tests.simulation.partner import HINT, PARTNER, RELATION, Misanswer, Partner

__all__ = ["Federated", "Mesh"]

#: Seconds for a request that is under way when the partner can be reached again, and does not end before its deadline.
_UNDER_WAY = 10.0
#: The longest part by which an interval is lengthened, and seconds for the exchange itself.
_JITTER, _EXCHANGE = 1.1, 2.0
#: Seconds after which a change of the partner's bundle has reached every workload, where nothing is wrong.
_CURRENT = HINT * _JITTER + _EXCHANGE + BOUND
#: Seconds between the operator's commands for the relation: no two are under way at once.
_COMMANDS_APART = 6.0
#: Seconds between two SVIDs of the partner's workload.
_RENEWED_EVERY = 8.0
#: Seconds between two faults or commands, in the mean.
_BETWEEN = 5.0
_NEVER = float("inf")


class Operate(Protocol):
    """Have an operation run in this server's process, as the operator."""

    def __call__(
        self, server: ServerMachine, what: str, operation: Callable[..., Awaitable[Any]], *args: Any, **more: Any
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """What it needs of the world. ``reached_since``: since when a workload hears at once of what its server has;
    ``clocks_right_since``: since when no clock is wrong. ``disturb`` changes the weather of a link for some seconds.
    """

    servers: list[ServerMachine]
    workloads: list[WorkloadMachine]
    checks: Checks
    store: StoreFile
    operate: Operate
    reached_since: Callable[[WorkloadMachine], float]
    clocks_right_since: Callable[[], float]
    kill: Callable[[ServerMachine], None]
    disturb: Callable[[str, str], None]
    at: Callable[[float, Callable[[], None]], None]


class Federated:
    """One run's federation. Call ``look`` once a second, and ``check`` after it."""

    def __init__(self, setting: Setting, seed: int) -> None:
        path = setting.store.path.with_name(f"{setting.store.path.name}-partner")
        shutil.copyfile(setting.store.path, path)
        self._choices = random.Random(f"{seed} federation")
        self._now, self._tell, self._network = setting.loop.time, setting.tell, setting.network
        self._store = StoreFile(path)
        self._checks = Checks(self._store, self._now)
        own = replace(
            setting,
            store=self._store,
            shared=False,
            signed=self._checks.signed,
            activated=_unseen,
            trust_domain=PARTNER,
        )
        self.partner = Partner(own, KeptGuard(self._checks.checkpoint), self._our_bundle)
        self._mesh: Mesh
        #: Since when each of our servers could fetch, and how many of its attempts had failed in a row then.
        self._could: dict[str, tuple[float, int]] = {}
        self._withdrawn_at: float | None = None
        self._sequence: int | None = None
        self._set_by_operator: int | None = None
        self._calm = False
        self._commanded_at = self._renewed_at = -_NEVER
        self._sequences: list[tuple[float, int]] = []

    def close(self) -> None:
        self._store.close()

    def federates(self, workload: WorkloadMachine) -> bool:
        """Whether its entry federates with the partner. The last workload's does not."""
        return workload is not self._mesh.workloads[-1]

    # Faults and commands

    def begin(self, mesh: Mesh) -> None:
        """Both servers answer: federate."""
        self._mesh = mesh
        self._federate()

    def plan(self, begin: float, end: float) -> None:
        """Faults and commands between these times, beside those of the mesh. The partner's authority is replaced at the
        beginning, so that its endpoint has older bundles to give.
        """
        acts: list[tuple[int, Callable[[], None]]] = [
            (4, self._disturb),
            (2, lambda: self._mesh.kill(self.partner.machine)),
            (4, self._misanswer),
            (5, self._rotate),
            (1, self._prepare),
            (1, self._activate),
            (1, self._taint),
            (2, self._revoke),
            (4, self._command),
        ]
        weights = [weight * self._choices.choice([0, 1, 1, 2]) for weight, _ in acts]
        at = begin
        self._mesh.at(at, self._rotate)
        while (at := at + self._choices.expovariate(1 / _BETWEEN)) < end:
            self._mesh.at(at, self._choices.choices([act for _, act in acts], weights)[0])

    def repair(self) -> None:
        """The faults and the partner's commands end."""
        self._calm = True
        self.partner.misanswer = None

    def federate_again(self) -> None:
        """What an operator does who finds no relation."""
        if not self._has_relation():
            self._commanded_at = -_NEVER
            self._federate()

    def reinstall(self) -> None:
        """What an operator does who finds the partner's bundle outdated: set it where it does not authenticate the
        endpoint any more, otherwise have it fetched.
        """
        self.look()
        present, server = self.partner.bundle, self._a_server()
        if server is None or present is None or self._sequence == present.sequence:
            return
        if self._authenticates():
            self._mesh.operate(server, "refresh federation", refresh_relation, server.federation, PARTNER)
        else:
            self._commanded_at = -_NEVER
            self._set_bundle()

    def _disturb(self) -> None:
        server = self._choices.choice(self._mesh.servers)
        self._mesh.disturb(server.name, self.partner.machine.name)

    def _misanswer(self) -> None:
        self.partner.misanswer = self._choices.choice([*Misanswer, Misanswer.OLDER])
        seconds = self._choices.uniform(3, 25)
        self._tell("p", f"its endpoint gives {self.partner.misanswer.value} for {seconds:.1f} s")

        def end() -> None:
            self.partner.misanswer = None

        self._mesh.at(self._now() + seconds, end)

    def _of_partner(self, what: str, operation: Callable[..., Awaitable[Any]], **more: Any) -> None:
        if not self._calm:
            self._mesh.operate(self.partner.machine, f"authority {what} x509 {more or ''}", operation, "x509", **more)

    def _rotate(self) -> None:
        """Replace the authority and revoke the old one: mostly by the rule, which is to wait for three hints before the
        activation.
        """
        waits = self._choices.choice([3 * HINT, 3 * HINT, 3 * HINT, 1.0])
        self._prepare()
        for seconds, act in (
            (waits, self._activate),
            (waits + self._choices.uniform(0.5, 5), self._taint),
            (waits + self._choices.uniform(3, 20), self._revoke),
        ):
            self._mesh.at(self._now() + seconds, act)

    def _prepare(self) -> None:
        self._of_partner("prepare", authorities.prepare_authority)

    def _activate(self) -> None:
        self._of_partner("activate", authorities.activate_authority)

    def _taint(self) -> None:
        self._of_partner("taint", authorities.taint_authority)

    def _revoke(self) -> None:
        more = {"force": True} if self._choices.random() < 0.7 else {}
        self._of_partner("revoke", authorities.revoke_authority, **more)

    def _command(self) -> None:
        if not self._has_relation():
            self._federate()
        elif self._choices.random() < 0.4:
            self._set_bundle()
        else:
            self._defederate()

    def _federate(self) -> None:
        bundle, server = self.partner.bundle, self._a_server()
        if bundle is not None and server is not None and self._may_command():
            self._set_by_operator = bundle.sequence
            what = f"create federation with bundle {bundle.sequence}"
            self._mesh.operate(server, what, create_relation, server.federation, RELATION, bundle)

    def _defederate(self) -> None:
        server = self._a_server()
        if server is not None and self._may_command():
            self._mesh.operate(server, "delete federation", delete_relation, server.federation, PARTNER)

    def _set_bundle(self) -> None:
        bundle, server = self.partner.bundle, self._a_server()
        if bundle is not None and server is not None and self._may_command():
            self._set_by_operator = bundle.sequence
            self._mesh.operate(server, f"set bundle {bundle.sequence} of the partner", bundles.set_bundle, bundle)

    def _may_command(self) -> bool:
        if self._now() - self._commanded_at < _COMMANDS_APART:
            return False
        self._commanded_at, self._set_by_operator = self._now(), None
        self._could.clear()
        return True

    def _a_server(self) -> ServerMachine | None:
        serving = [one for one in self._mesh.servers if one.serves and one.federation is not None]
        return self._choices.choice(serving) if serving else None

    # What is seen

    def look(self) -> None:
        """Note what the partner publishes, what our store has of it, and which of our servers can fetch."""
        now = self._now()
        self._checks.look()
        bundle, held = self.partner.bundle, self._held()
        if bundle is not None and (not self._sequences or self._sequences[-1][1] != bundle.sequence):
            self._sequences.append((now, bundle.sequence or 0))
        if held is None:
            if self._has_relation():
                raise ViolationError("the partner's bundle is gone from the store, though its relation is there")
            self._withdrawn_at = now if self._withdrawn_at is None else self._withdrawn_at
            self._sequence = None
        else:
            self._withdrawn_at = None
            self._note_sequence(held.sequence or 0)
        for server in self._mesh.servers:
            if not self._can_fetch(server, now):
                self._could.pop(server.name, None)
            elif server.name not in self._could and server.process is not None:
                self._could[server.name] = now, self.partner.failures.get(server.process, 0)
        if now - self._renewed_at >= _RENEWED_EVERY:
            self._renewed_at = now
            self.partner.renew()

    def _note_sequence(self, sequence: int) -> None:
        before, self._sequence = self._sequence, sequence
        is_commanded = sequence == self._set_by_operator and self._now() - self._commanded_at < _COMMANDS_APART
        if before is not None and sequence < before and not is_commanded:
            raise ViolationError(f"the partner's bundle went back from sequence {before} to {sequence}")
        if not self._has_relation():
            raise ViolationError("the partner's bundle is in the store, though its relation was deleted")

    def _can_fetch(self, server: ServerMachine, now: float) -> bool:
        machine = self.partner.machine
        return (
            server.serves
            and machine.serves
            and self.partner.misanswer is None
            and self._network.link(server.name, machine.name).fair
            and self._mesh.clocks_right_since() <= now
            and self._has_relation()
            and self._authenticates()
        )

    def _authenticates(self) -> bool:
        """Whether our bundle has the authority of the SVID that the endpoint presents."""
        held, identity = self._held(), self.partner.machine.identity
        svid = identity.svid if identity is not None else None
        if held is None or svid is None:
            return False
        _, authority = self._checks.issuer_of(format_serial(svid.leaf))
        return authority in _ids(held)

    def _held(self) -> TrustBundle | None:
        """The partner's bundle that our store has."""
        rows = self._mesh.store.rows("SELECT document FROM bundles WHERE trust_domain = ?", str(PARTNER))
        return _bundle_of(rows[0][0]) if rows else None

    def _has_relation(self) -> bool:
        return bool(self._mesh.store.rows("SELECT 1 FROM federation WHERE trust_domain = ?", str(PARTNER)))

    def _our_bundle(self) -> TrustBundle:
        serving = next((one for one in self._mesh.servers if one.core is not None), None)
        assert serving is not None
        assert serving.core is not None
        return serving.core.hub.bundle

    # What must hold

    def check(self) -> None:
        """The bundles that workloads hold, and the partner's workload as they see it."""
        for workload in self._mesh.workloads:
            context = workload.snapshot()
            if context is None:
                continue
            self._check_not_merged(workload, context)
            self._check_withdrawn(workload, context)
            for peer in workload.peers.values():
                if peer.spiffe_id == self.partner.spiffe_id:
                    self._check_accepted(workload, peer, "keeps its connection of")
            for chain in self.partner.chains.values():
                self._connect(workload, chain)

    def converged(self) -> None:
        """Everybody has the partner's bundle, and its workload is accepted."""
        now = self._now()
        self.look()
        ends = [*(at for at, _ in self._sequences[1:]), _NEVER]
        current = {one for (_, one), end in zip(self._sequences, ends, strict=True) if now - end < _CURRENT}
        for server in self._mesh.servers:
            held = server.core.hub.federated.get(PARTNER) if server.core is not None else None
            if held is None or held.sequence not in current:
                found = "no bundle" if held is None else f"bundle {held.sequence}"
                raise ViolationError(f"{server.name} has not converged: {found} of the partner, wanted {current}")
        for workload in self._mesh.workloads:
            authority, chain = list(self.partner.chains.items())[-1]
            if self.federates(workload):
                self._connect(workload, chain, must=self._is_settled(authority))

    def _connect(self, workload: WorkloadMachine, chain: list[bytes], *, must: bool = False) -> None:
        try:
            peer = workload.verify(chain)
        except PeerError as error:
            if must:
                said = f"{workload.name} refuses {self.partner.spiffe_id} without a cause: {error}"
                raise ViolationError(said) from error
            return
        self._check_accepted(workload, peer, "accepts")
        _, authority = self._checks.issuer_of(peer.serial)
        workload.peers[f"the partner below {authority}"] = peer

    def _check_not_merged(self, workload: WorkloadMachine, context: X509Context) -> None:
        for domain, published in ((TD, self._mesh.checks.published), (PARTNER, self._checks.published)):
            bundle = context.bundles.get(domain)
            foreign = set() if bundle is None else _ids(bundle) - published.keys()
            if foreign:
                raise ViolationError(f"{workload.name} holds {sorted(foreign)} for {domain}, which did not publish it")

    def _check_withdrawn(self, workload: WorkloadMachine, context: X509Context) -> None:
        if PARTNER not in {one.trust_domain for one in context.bundles}:
            return
        if not self.federates(workload):
            raise ViolationError(f"{workload.name} holds the partner's bundle, with which its entry does not federate")
        self._check_withdrawn_within(workload, "holds the partner's bundle")

    def _check_withdrawn_within(self, workload: WorkloadMachine, what: str) -> None:
        if self._withdrawn_at is None:
            return
        since = self._now() - max(self._withdrawn_at, self._mesh.reached_since(workload))
        if since > BOUND:
            gone = self._now() - self._withdrawn_at
            raise ViolationError(f"{workload.name} {what}, which the operator deleted {gone:.1f} s ago")

    def _check_accepted(self, workload: WorkloadMachine, peer: VerifiedPeer, verb: str) -> None:
        if not self.federates(workload):
            raise ViolationError(f"{workload.name} {verb} {peer.spiffe_id}, with which its entry does not federate")
        self._check_withdrawn_within(workload, f"{verb} {peer.spiffe_id} by the partner's bundle")
        _, authority = self._checks.issuer_of(peer.serial)
        revoked = self._checks.revoked_authorities.get(authority)
        if revoked is not None and self._now() > self._refused_by(workload, revoked):
            raise ViolationError(
                f"{workload.name} {verb} {peer.spiffe_id}, whose authority {authority[:8]} the partner revoked"
                f" {self._now() - revoked:.1f} s ago"
            )

    def _refused_by(self, workload: WorkloadMachine, revoked: float) -> float:
        """When this workload has to have followed the revocation of an authority of the partner, at the latest."""
        known = max(revoked, self._mesh.reached_since(workload), self._mesh.clocks_right_since())
        return min(
            (max(known, since) + _fetched_within(failures) + BOUND for since, failures in self._could.values()),
            default=_NEVER,
        )

    def _is_settled(self, authority: str) -> bool:
        """Whether this authority has been in the partner's bundle long enough, and still is."""
        since = self._now() - self._checks.published[authority]
        return since > _CURRENT and authority not in self._checks.revoked_authorities


def _fetched_within(failures: int) -> float:
    """Seconds from when a fetch can succeed until one has, after so many failures in a row: these have doubled the
    interval, and a request that is under way may be one more.
    """
    return float(_UNDER_WAY + HINT * 2**failures * _JITTER + _EXCHANGE)


def _unseen(server: str, authority: str) -> None:
    """No invariant is about the authority that a partner signs with."""


@functools.lru_cache(maxsize=64)
def _bundle_of(document: str) -> TrustBundle:
    return TrustBundle.from_jwks(PARTNER, document)


def _ids(bundle: TrustBundle) -> set[str]:
    return {_key_id(one) for one in bundle.x509_authorities}


@functools.lru_cache(maxsize=256)
def _key_id(certificate: Certificate) -> str:
    return key_id_of(certificate)
