"""One run: the machines, what the seed breaks and commands, and what is checked meanwhile and at the end.

A run has three parts. The mesh starts and everybody has an SVID; then faults and commands come at random, for some
minutes; then the faults end, and the mesh has to converge. Once a second workloads connect to each other.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.x509 import Certificate

from meshtls.errors import MeshtlsError, PeerError
from meshtls.proto import server_pb
from meshtls.registration import Entry, Selector
from meshtls.server.operations import authorities, entries, revocations
from meshtls.server.operations.agents import ban_agent, evict_agent
from meshtls.server.signing import Signed
from meshtls.serverapi.values import Subject, SubjectKind
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer
from meshtls.svid.x509 import format_serial, key_id_of, parse_chain
from tests.simulation.above import Above
from tests.simulation.chance import chosen_by
from tests.simulation.checks import BOUND, FOLLOWED, Checks, ViolationError
from tests.simulation.disk import KeptGuard, StoreFile, forget
from tests.simulation.federated import Federated, Mesh
from tests.simulation.loop import EPOCH, MachineClock, ProcessKilled, SimLoop, SimProcess, running_process
from tests.simulation.machines import (
    OPERATOR,
    TD,
    AgentMachine,
    Lives,
    ServerMachine,
    Setting,
    WorkloadMachine,
    der_of,
    outcome,
)
from tests.simulation.network import Network, Weather
from tests.simulation.partner import PARTNER

__all__ = ["Run", "World"]

_FAULTS_FROM = 15.0
#: Seconds from the end of the faults until the mesh has to have converged.
_CALM = 100.0
#: Seconds more below another authority: agents whose SVIDs hang on a root that was revoked above are admitted once more
#: when those have expired, and their workloads ask again with back-off.
_READMITTED = 50.0
#: Seconds into the calm at which the operator gives a new bundle to agents that can't verify their server any more.
_REINSTALLED = 45.0
#: The part of the seeds in which an authority is above the servers.
_BELOW_ANOTHER = 0.3
#: The part of the seeds in which the trust domain federates with another one.
_FEDERATED = 0.3
_SYNC = "/meshtls.server.v1.Node/Sync"
_FETCH = "/SpiffeWorkloadAPI/FetchX509SVID"
_NEVER = float("inf")


@dataclass(slots=True)
class Run:
    """What came of a run. ``violation`` is None if every invariant held."""

    seed: int
    violation: str | None
    story: list[str] = field(repr=False)
    steps: int
    signed: int
    accepted: int
    refused: int
    kills: int


class World:
    """``run`` runs it once. ``path`` is a new file with the store's schema."""

    def __init__(self, seed: int, path: Path) -> None:
        self.seed = seed
        self._choices = random.Random(f"{seed} faults")
        self._chance = random.Random(f"{seed} keys")
        self._store = StoreFile(path)
        self._loop = SimLoop()  # type: ignore[abstract]  # of the methods for sockets and processes, none is called
        self._network = Network(self._loop, random.Random(f"{seed} network"))
        self._checks = Checks(self._store, self._loop.time)
        self._story: list[str] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._events_made = 0
        self._clock_trouble = 0.0
        self._exempt: set[str] = set()
        self._violation: ViolationError | None = None
        self._calm = False
        self._signed_count = self._accepted = self._refused = self._kills = 0
        choose = self._choices
        svid = choose.choice([30, 60])
        lives = Lives(svid, choose.choice([60, 120]), choose.choice([2 * svid, 150]), choose.choice([150, 240, 600]))
        self._faults_until = _FAULTS_FROM + choose.choice([40, 80, 120])
        shared = choose.random() < 0.4
        setting = Setting(
            self._loop,
            self._network,
            random.Random(f"{seed} jitter"),
            lives,
            self._store,
            shared,
            self._killed,
            self.tell,
            self._signed,
            self._activated,
        )
        self._network.answering = self._answering
        self.above = self._new_above()
        self.federated = self._new_federated(setting)
        self.servers = [
            ServerMachine(setting, f"s{n}", n, KeptGuard(self._checkpoint), self.above)
            for n in range(1, 3 if shared else 2)
        ]
        self.agents = [
            AgentMachine(setting, f"a{n}", self.servers[(n - 1) % len(self.servers)])
            for n in range(1, choose.choice([3, 4]))
        ]
        self.workloads = [
            WorkloadMachine(setting, f"w{n}", self.agents[(n - 1) % len(self.agents)], 1000 + n)
            for n in range(1, choose.choice([3, 4, 5]))
        ]
        self.lives = lives
        self.tell(
            "",
            f"{lives}, {len(self.servers)} servers{' below an authority' if self.above else ''}"
            f"{' and a partner' if self.federated else ''},"
            f" {len(self.agents)} agents, {len(self.workloads)} workloads",
        )

    def _new_above(self) -> Above | None:
        """In a part of the seeds the servers' roots are those of an authority above them."""
        if random.Random(f"{self.seed} above").random() >= _BELOW_ANOTHER:
            return None
        with chosen_by(self._chance):
            return Above(TD, MachineClock(self._loop), self._loop.time)

    def _new_federated(self, setting: Setting) -> Federated | None:
        """In a part of the seeds the servers follow the bundle of another trust domain."""
        if random.Random(f"{self.seed} partner").random() >= _FEDERATED:
            return None
        made = Federated(setting, self.seed)
        setting.get = made.partner.get
        return made

    def run(self) -> Run:
        """Everything from the first start to the last check."""
        with chosen_by(self._chance):
            try:
                self._begin()
                self._plan()
                self._go_until(self._faults_until)
                self._repair()
                self._go_until(self._faults_until + _CALM + (_READMITTED if self.above is not None else 0.0))
                self._converged()
            except ViolationError as error:
                self._violation = error
        if self._violation is not None:
            self.tell("", f"VIOLATION: {self._violation}")
        self._store.close()
        if self.federated is not None:
            self.federated.close()
        return Run(
            self.seed,
            None if self._violation is None else str(self._violation),
            self._story,
            self._loop.steps,
            self._signed_count,
            self._accepted,
            self._refused,
            self._kills,
        )

    def tell(self, subject: str, what: str) -> None:
        self._story.append(f"{self._loop.time():8.2f} s  {subject:3} {what}")

    @property
    def speaker(self) -> str:
        """The name of the process whose code runs now; empty outside of one."""
        process = running_process()
        return process.name if process else ""

    # The parts of a run

    def _begin(self) -> None:
        for server in self._all_servers():
            server.start()
        self._run_until(3.0)
        for server in self._all_servers():
            if not server.serves:
                raise ViolationError(f"{server.name} did not start: {self._loop.failures}")
        if self.federated is not None:
            self.federated.begin(self._mesh())
        first = self.servers[0]
        self._operate(first, "create entries", entries.create_entries, [self._entry(one) for one in self.workloads])
        self._run_until(4.0)
        for agent in self.agents:
            agent.start(_core(first).hub.bundle)
        self._run_until(6.0)
        for workload in self.workloads:
            workload.start()
        self._at(7.0, self._tick)
        self._go_until(_FAULTS_FROM)
        for workload in self.workloads:
            if workload.snapshot() is None:
                raise ViolationError(f"{workload.name} has no SVID at the start")

    def _plan(self) -> None:
        choose = self._choices
        acts: list[tuple[int, Callable[[], None]]] = [
            (4, self._cut_link),
            (4, self._rough_link),
            (3, self._kill_server),
            (2, self._kill_agent),
            (1, self._kill_workload),
            (2, self._shift_clock),
            (4, self._prepare),
            (5, self._activate),
            (4, self._taint),
            (4, self._revoke_authority),
            (4, self._revoke),
            (3, self._readmit),
            (1, self._delete_entry),
            (1, self._remove_agent),
        ]
        if self.above is not None:
            acts += [
                (3, self._lose_above),
                (4, partial(self._act_above, "prepare")),
                (4, partial(self._act_above, "activate")),
                (3, partial(self._act_above, "taint")),
                (3, partial(self._act_above, "revoke")),
            ]
        if self.federated is not None:
            self.federated.plan(_FAULTS_FROM, self._faults_until)
        weights = [weight * choose.choice([0, 1, 1, 2]) for weight, _ in acts]
        if not any(weights):
            weights = [1] * len(acts)
        at = _FAULTS_FROM
        while (at := at + choose.expovariate(1 / 4)) < self._faults_until:
            self._at(at, choose.choices([act for _, act in acts], weights)[0])

    def _repair(self) -> None:
        self.tell("", "the faults end")
        self._calm = True
        if self.above is not None:
            self._find_above()
        for pair, weather in self._network.weather.items():
            if weather != Weather():
                self._mend(*sorted(pair))
        for machine in self._nodes():
            self._set_clock(machine, 0.0)
        for server in self._all_servers():
            if server.process is not None:
                server.process.kill_after = None
        if self.federated is not None:
            self.federated.repair()
        self._at(self._loop.time() + 15, self._restore_entries)
        self._at(self._loop.time() + _REINSTALLED, self._reinstall)

    def _restore_entries(self) -> None:
        server = self._any_server()
        if server is None:
            self._at(self._loop.time() + 2, self._restore_entries)
            return
        rows = self._store.rows
        for kind, name in rows("SELECT kind, subject FROM blocks ORDER BY kind, subject"):
            self._operate(server, f"readmit {kind}", revocations.readmit, Subject(SubjectKind(kind), name))
        present = {row[0] for row in rows("SELECT spiffe_id FROM entries")}
        if self.federated is not None:
            self.federated.federate_again()
        missing = [self._entry(one) for one in self.workloads if str(one.spiffe_id) not in present]
        if missing:
            self._operate(server, "create entries again", entries.create_entries, missing)

    def _reinstall(self) -> None:
        """An agent whose bundle knows no authority of its server any more needs the operator, as does a server whose
        bundle of the partner is outdated.
        """
        if self.federated is not None:
            self.federated.reinstall()
        for agent in self.agents:
            identity, server = agent.identity, agent.server
            if identity is None or not server.serves:
                continue
            known = {_key_id(one) for one in identity.bundle.x509_authorities}
            if _core(server).signing.authority.id not in known and agent.process is not None:
                self.tell(agent.name, "gets a new bundle from the operator")
                agent.kept.clear()
                agent.process.kill()

    def _converged(self) -> None:
        self._checks.look()
        size = self._checks.log()
        if self._loop.failures:
            raise ViolationError(self._loop.failures[0])
        [(sequence,)] = self._store.rows("SELECT value FROM counters WHERE name = 'bundle'")
        [(signed_size,)] = self._store.rows("SELECT signed_size FROM log_state")
        if size - signed_size > 50:
            raise ViolationError(f"the log has {size} leaves, of which only {signed_size} are signed")
        for server in self.servers:
            if not server.serves or _core(server).hub.bundle.sequence != sequence:
                raise ViolationError(f"{server.name} has not converged")
        for agent in self.agents:
            own = agent.identities and agent.identities.cache.bundles.get(TD)
            if not own or own.sequence != sequence:
                raise ViolationError(f"{agent.name} has not converged: {own}, wanted sequence {sequence}")
        for workload in self.workloads:
            context = workload.snapshot()
            if context is None:
                raise ViolationError(f"{workload.name} has not converged: {workload.source}")
            if self._checks.refused_since(VerifiedPeer(workload.spiffe_id, context.svid.chain)) is not None:
                raise ViolationError(f"{workload.name} has not converged: its SVID is revoked")
        for one in self.workloads:
            for other in self.workloads:
                if one is not other:
                    self._connect(one, other, must=True)
        if self.federated is not None:
            self.federated.converged()

    # Time

    def _at(self, when: float, act: Callable[[], None]) -> None:
        self._events_made += 1
        heapq.heappush(self._events, (when, self._events_made, act))

    def _go_until(self, end: float) -> None:
        while self._events and self._events[0][0] <= end:
            when, _, act = heapq.heappop(self._events)
            self._run_until(when)
            act()
        self._run_until(end)

    def _run_until(self, end: float) -> None:
        self._loop.run_until(end)
        if self._violation is not None:
            raise self._violation

    # What the checks see

    def _signed(self, server: str, made: Signed) -> None:
        self._signed_count += 1
        self._guarded(lambda: self._check_signed(server, made))

    def _check_signed(self, server: str, made: Signed) -> None:
        self._checks.signed(server, made)
        self._check_held(server, f"signed {made.record.spiffe_id} by", made.record.authority or "")

    def _activated(self, server: str, authority: str) -> None:
        self._guarded(lambda: self._check_held(server, "signs from now on by", authority))

    def _answering(self, message: Any) -> None:
        """A server is about to send this message."""
        for svid in _svids_of(message):
            serial = format_serial(parse_chain(list(svid.chain))[0])
            self._guarded(lambda serial=serial: self._checks.left_server(serial))  # type: ignore[misc]

    def _check_held(self, server: str, verb: str, authority: str) -> None:
        """Every connected workload has this authority, with which the server signs."""
        now = self._loop.time()
        machine = next(one for one in self.servers if one.name == server)
        if authority not in self._checks.published:
            self._checks.look()
            if not machine.serves:
                self._exempt.add(authority)  # of a new server, or of one that has lost its keys
        if self.above is not None and authority in self.above.revoked:
            # Another server of the store has followed. This one does at its next look, which is before it serves.
            self._checks.look()
            known = max(self._checks.revoked_authorities.get(authority, 0.0), self.above.reachable_since)
            if not machine.serves or now - known < BOUND:
                return
        if authority in self._exempt and now - self._checks.published.get(authority, now) < BOUND:
            return
        for workload in self.workloads:
            context = workload.snapshot()
            since = self._connected_since(workload)
            if context is None or now - since < BOUND:
                continue
            held = {_key_id(one) for one in context.bundles[TD].x509_authorities}
            if authority not in held:
                raise ViolationError(
                    f"{server} {verb} authority {authority[:8]}, which {workload.name} does not hold, though it was"
                    f" connected for {now - since:.1f} s"
                )

    def _checkpoint(self, signed: Any) -> None:
        self._guarded(lambda: self._checks.checkpoint(signed))

    def _guarded(self, check: Callable[[], None]) -> None:
        """A violation within the loop ends the run after the present step."""
        try:
            check()
        except ViolationError as error:
            self._violation = self._violation or error

    def _connected_since(self, workload: WorkloadMachine) -> float:
        """Since when this workload is connected to its server, through its agent."""
        agent = workload.agent
        link = self._network.link(agent.name, agent.server.name)
        if link.cut or link.loss:
            return _NEVER
        return max(
            self._network.since.get((workload.name, _FETCH), _NEVER),
            self._network.since.get((agent.name, _SYNC), _NEVER),
            agent.server.serving_since,
        )

    def _reached_since(self, workload: WorkloadMachine) -> float:
        """Since when it hears at once of what its server has, and everybody's clock is right."""
        agent = workload.agent
        if not self._network.link(agent.name, agent.server.name).fair:
            return _NEVER
        return max(self._connected_since(workload), self._clocks_right_since())

    def _clocks_right_since(self) -> float:
        wrong = any(one.clock.offset for one in self._nodes())
        return _NEVER if wrong else self._clock_trouble

    def _tick(self) -> None:
        self._checks.look()
        self._at(self._loop.time() + 1.0, self._tick)
        for workload in self.workloads:
            self._check_above(workload)
        for _ in range(2):
            one, other = self._choices.sample(self.workloads, 2)
            self._connect(one, other)
        for workload in self.workloads:
            for peer in workload.peers.values():
                if peer.spiffe_id.trust_domain == TD:
                    self._check_accepted(workload, peer, "keeps its connection of")
        if self.federated is not None:
            self.federated.look()
            self.federated.check()

    def _connect(self, one: WorkloadMachine, other: WorkloadMachine, *, must: bool = False) -> None:
        mine, theirs = one.snapshot(), other.snapshot()
        if mine is None or theirs is None:
            return
        for verifier, context, holder in ((other, mine, one), (one, theirs, other)):
            self._checks.left_server(format_serial(context.svid.leaf))
            try:
                peer = verifier.verify(der_of(context.svid))
            except PeerError as error:
                self._refused += 1
                self._check_refused(verifier, holder, VerifiedPeer(holder.spiffe_id, context.svid.chain), error, must)
                return
            self._accepted += 1
            self._check_accepted(verifier, peer, "accepts")
            verifier.peers[holder.name] = peer

    def _check_above(self, workload: WorkloadMachine, *, within: float = FOLLOWED) -> None:
        """It trusts no root that the authority above has revoked, if everything in between could be reached."""
        context = workload.snapshot()
        if self.above is None or context is None:
            return
        servers = [one.serving_since for one in self.servers]
        known = max(self._reached_since(workload), self.above.reachable_since, *servers)
        held = {_key_id(one) for one in context.bundles[TD].x509_authorities}
        for authority, revoked in self.above.revoked.items():
            since = self._loop.time() - max(revoked, known)
            if authority in held and since > within:
                raise ViolationError(
                    f"{workload.name} trusts root {authority[:8]}, which the authority above revoked"
                    f" {self._loop.time() - revoked:.1f} s ago"
                )

    def _check_accepted(self, verifier: WorkloadMachine, peer: VerifiedPeer, verb: str) -> None:
        since = self._checks.refused_since(peer)
        if since is None:
            return
        signer, _ = self._checks.issuer_of(peer.serial)
        issuing = next(one for one in self.servers if one.name == signer)
        known = max(since, self._reached_since(verifier), issuing.serving_since)
        if self._seconds_of(peer.not_after) < known:
            return  # a live connection may outlive its peer's certificate, and no CRL lists what has long expired
        if self._loop.time() - known > BOUND:
            raise ViolationError(
                f"{verifier.name} {verb} {peer.spiffe_id} ({peer.serial[:8]}),"
                f" revoked {self._loop.time() - since:.1f} s ago"
            )

    def _seconds_of(self, moment: datetime) -> float:
        """This moment of true time, in seconds of the run."""
        return (moment - EPOCH).total_seconds()

    def _check_refused(
        self, verifier: WorkloadMachine, holder: WorkloadMachine, peer: VerifiedPeer, error: PeerError, must: bool
    ) -> None:
        now = self._loop.time()
        settled = now - max(self._clocks_right_since(), 0.0) > 2 * self.lives.svid + 10 or not self._clock_trouble
        reached = all(now - self._reached_since(one) > BOUND for one in (verifier, holder))
        if (must or (settled and reached)) and self._checks.refused_since(peer) is None:
            raise ViolationError(f"{verifier.name} refuses {holder.name} without a cause: {error}")

    # Faults

    def _killed(self, process: SimProcess) -> None:
        self._kills += 1
        forget(process)
        self._network.killed(process)
        machines: list[ServerMachine | AgentMachine | WorkloadMachine] = [*self._nodes(), *self.workloads]
        machine = next(one for one in machines if one.process is process)
        machine.stopped()
        if process.failure is not None and not isinstance(process.failure, ProcessKilled):
            self._violation = self._violation or ViolationError(
                f"{process.name} ended by an error: {process.failure!r}"
            )
        self.tell(process.name, "is killed")
        again = self._loop.time() + (1.0 if self._calm else self._choices.uniform(0.5, 12.0))
        self._at(again, lambda: self._start(machine))

    def _start(self, machine: ServerMachine | AgentMachine | WorkloadMachine) -> None:
        self.tell(machine.name, "starts")
        if isinstance(machine, AgentMachine):
            server = self._any_server()
            if server is None:
                self._at(self._loop.time() + 1, lambda: self._start(machine))
                return
            machine.start(_core(server).hub.bundle)
        else:
            machine.start()

    def _cut_link(self) -> None:
        agent = self._choices.choice(self.agents)
        self._weather(agent.name, agent.server.name, self._choices.uniform(1, 40), cut=True)

    def _rough_link(self) -> None:
        agent = self._choices.choice(self.agents)
        self._roughen(agent.name, agent.server.name)

    def _roughen(self, one: str, other: str) -> None:
        choose = self._choices
        slow: dict[str, Any] = {"delay": choose.uniform(0.5, 6)}
        fault = choose.choice([slow, slow, {"loss": choose.uniform(0.05, 0.5)}, {"doubled": 0.5}])
        self._weather(one, other, choose.uniform(3, 30), **fault)

    def _disturb(self, one: str, other: str) -> None:
        if self._choices.random() < 0.5:
            self._weather(one, other, self._choices.uniform(1, 40), cut=True)
        else:
            self._roughen(one, other)

    def _weather(self, one: str, other: str, seconds: float, **fault: Any) -> None:
        link = self._network.link(one, other)
        for name, value in fault.items():
            setattr(link, name, value)
        self.tell(one, f"its link to {other} has {fault} for {seconds:.1f} s")
        self._network.changed(one, other)
        self._at(min(self._loop.time() + seconds, self._faults_until), lambda: self._mend(one, other))

    def _mend(self, one: str, other: str) -> None:
        self._network.weather[frozenset((one, other))] = Weather()
        self._network.changed(one, other)

    def _lose_above(self) -> None:
        assert self.above is not None
        seconds = self._choices.uniform(1, 25)
        self.above.reachable = False
        self.tell("", f"the authority above is out of reach for {seconds:.1f} s")
        self._at(min(self._loop.time() + seconds, self._faults_until), self._find_above)

    def _find_above(self) -> None:
        if self.above is not None and not self.above.reachable:
            self.above.reachable = True
            self.tell("", "the authority above can be reached again")

    def _act_above(self, what: str) -> None:
        authority = getattr(self.above, what)()
        if authority is not None:
            self.tell("", f"the authority above: {what} {authority[:8]}")

    def _kill_server(self) -> None:
        self._kill_soon(self._choices.choice(self.servers))

    def _kill_soon(self, server: ServerMachine) -> None:
        self._kill_at_a_step(server.process, 120)

    def _kill_agent(self) -> None:
        self._kill_at_a_step(self._choices.choice(self.agents).process, 8)

    def _kill_workload(self) -> None:
        process = self._choices.choice(self.workloads).process
        if process is not None:
            process.kill()

    def _kill_at_a_step(self, process: SimProcess | None, most: int) -> None:
        if process is not None and process.alive:
            process.kill_after = self._choices.randrange(most)
            self.tell(process.name, f"will be killed {process.kill_after} steps from now")

    def _shift_clock(self) -> None:
        machine = self._choices.choice(self._nodes())
        far = self._choices.choice([3.0, 8.0, 25.0, 60.0])
        self._set_clock(machine, self._choices.uniform(-far, far))
        seconds = self._choices.uniform(5, 40)
        self._at(min(self._loop.time() + seconds, self._faults_until), lambda: self._set_clock(machine, 0.0))

    def _all_servers(self) -> list[ServerMachine]:
        """Ours and the partner's."""
        return [*self.servers, *([self.federated.partner.machine] if self.federated is not None else [])]

    def _nodes(self) -> list[ServerMachine | AgentMachine]:
        """The machines that have a clock."""
        return [*self._all_servers(), *self.agents]

    def _set_clock(self, machine: ServerMachine | AgentMachine, offset: float) -> None:
        if machine.clock.offset != offset:
            machine.clock.offset = offset
            self._clock_trouble = self._loop.time()
            self.tell(machine.name, f"its clock is wrong by {offset:+.1f} s" if offset else "its clock is right again")

    # Commands

    def _operate(
        self,
        server: ServerMachine,
        what: str,
        operation: Callable[..., Awaitable[Any]],
        *args: Any,
        **more: Any,
    ) -> None:
        process = server.process
        if server.core is None or process is None:
            return
        if not self._calm and self._loop.time() > _FAULTS_FROM and self._choices.random() < 0.25:
            self._kill_at_a_step(process, 60)
        self.tell(server.name, what)
        task = process.spawn(outcome(operation(server.core, OPERATOR, *args, **more)))

        def told(done: asyncio.Task[Any]) -> None:
            result = done.result()
            self.tell(server.name, f"{what}: {result if isinstance(result, MeshtlsError) else 'done'}")
            self._checks.look()

        task.add_done_callback(told)

    def _any_server(self) -> ServerMachine | None:
        serving = [one for one in self.servers if one.serves]
        return self._choices.choice(serving) if serving else None

    def _kind(self) -> str:
        return self._choices.choice(["x509", "x509", "x509", "jwt"])

    def _authority_act(self, what: str, operation: Callable[..., Awaitable[Any]], **more: Any) -> None:
        server, kind = self._any_server(), self._kind()
        if server is not None:
            self._operate(server, f"authority {what} {kind} {more or ''}", operation, kind, **more)

    def _prepare(self) -> None:
        self._authority_act("prepare", authorities.prepare_authority)

    def _activate(self) -> None:
        self._authority_act("activate", authorities.activate_authority)

    def _taint(self) -> None:
        self._authority_act("taint", authorities.taint_authority)

    def _revoke_authority(self) -> None:
        more = {"force": True} if self._choices.random() < 0.3 else {}
        self._authority_act("revoke", authorities.revoke_authority, **more)

    def _revoke(self) -> None:
        server, workload = self._any_server(), self._choices.choice(self.workloads)
        if server is None:
            return
        kind = self._choices.choice([SubjectKind.SERIAL, SubjectKind.SPIFFE_ID, SubjectKind.ENTRY, SubjectKind.AGENT])
        name: str | None = str(workload.spiffe_id)
        if kind is SubjectKind.SERIAL:
            context = workload.snapshot()
            name = format_serial(context.svid.leaf) if context else None
        elif kind is SubjectKind.ENTRY:
            name = self._entry_id(workload)
        elif kind is SubjectKind.AGENT:
            name = self._agent_id(workload.agent)
        if name is not None:
            told = f"revoke {kind.value} {name[-12:]} (of {workload.name})"
            self._operate(server, told, revocations.revoke, Subject(kind, name))

    def _readmit(self) -> None:
        server = self._any_server()
        blocked = self._store.rows("SELECT kind, subject FROM blocks ORDER BY kind, subject")
        if server is not None and blocked:
            kind, name = self._choices.choice(blocked)
            self._operate(server, f"readmit {kind} {name[-12:]}", revocations.readmit, Subject(SubjectKind(kind), name))

    def _delete_entry(self) -> None:
        server, workload = self._any_server(), self._choices.choice(self.workloads)
        key = self._entry_id(workload)
        if server is not None and key is not None:
            self._operate(server, f"delete the entry of {workload.name}", entries.delete_entries, [key])
        elif server is not None:
            self._operate(
                server, f"create the entry of {workload.name}", entries.create_entries, [self._entry(workload)]
            )

    def _remove_agent(self) -> None:
        server, agent = self._any_server(), self._choices.choice(self.agents)
        name = self._agent_id(agent)
        if server is not None and name is not None:
            operation = self._choices.choice([ban_agent, evict_agent])
            self._operate(server, f"{operation.__name__} {agent.name}", operation, SpiffeId.parse(name))

    def _entry(self, workload: WorkloadMachine) -> Entry:
        return Entry(
            spiffe_id=workload.spiffe_id,
            parent_id=workload.agent.alias,
            selectors=(Selector("unix", f"uid:{workload.uid}"),),
            federates_with=(PARTNER,) if self.federated is not None and self.federated.federates(workload) else (),
        )

    def _mesh(self) -> Mesh:
        return Mesh(
            servers=self.servers,
            workloads=self.workloads,
            checks=self._checks,
            store=self._store,
            operate=self._operate,
            reached_since=self._reached_since,
            clocks_right_since=self._clocks_right_since,
            kill=self._kill_soon,
            disturb=self._disturb,
            at=self._at,
        )

    def _entry_id(self, workload: WorkloadMachine) -> str | None:
        found = self._store.rows("SELECT id FROM entries WHERE spiffe_id = ?", str(workload.spiffe_id))
        return found[0][0] if found else None

    def _agent_id(self, agent: AgentMachine) -> str | None:
        svid = agent.identity.svid if agent.identity else None
        return str(svid.spiffe_id) if svid else None


@functools.lru_cache(maxsize=256)
def _key_id(certificate: Certificate) -> str:
    return key_id_of(certificate)


def _core(server: ServerMachine) -> Any:
    assert server.core is not None
    return server.core


def _svids_of(message: Any) -> list[Any]:
    """The X509-SVIDs in a message of a server."""
    if isinstance(message, server_pb.SignX509Response):
        return [one.svid for one in message.results if one.HasField("svid")]
    if isinstance(message, server_pb.AttestResponse):
        return [message.attested.svid] if message.HasField("attested") else []
    return [message] if isinstance(message, server_pb.X509Svid) else []
