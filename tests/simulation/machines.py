"""The machines of the mesh: servers with their disks, nodes with an agent, and workloads beside it.

Each runs the program's own parts. A machine outlives its processes: ``start`` begins the next life with what the disk
has kept.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate

from meshtls.agent import callers
from meshtls.agent.attest.attestor import Caller as LocalCaller
from meshtls.agent.caller_views import CallerViews
from meshtls.agent.identities import Identities
from meshtls.agent.node.own_svid import NodeIdentity
from meshtls.agent.node.upstream import ServerAddress, ServerUpstream
from meshtls.agent.workload_api import WorkloadApi
from meshtls.bundle import BundleSet, TrustBundle
from meshtls.ca.keys.manager import KeyAlgorithm
from meshtls.ca.subordinate import X509Authority
from meshtls.clock import Clock
from meshtls.errors import LocalIdentityError, MeshtlsError, PeerError
from meshtls.observe.metrics import Metrics
from meshtls.proto.workload_grpc import SpiffeWorkloadAPIStub
from meshtls.registration import Selector, server_id
from meshtls.rpc.call_metrics import CallMetrics
from meshtls.rpc.peer_credentials import Credentials
from meshtls.rpc.shedding import Refusals
from meshtls.server.access import Caller, ListenerKind, Role
from meshtls.server.authority_keys import AuthorityKeys
from meshtls.server.bundle_fetching import Get
from meshtls.server.config import parse_config
from meshtls.server.core import Core
from meshtls.server.federating import Federation
from meshtls.server.listeners import ServiceFor, _Interceptor
from meshtls.server.metrics import families
from meshtls.server.operations.agents import create_join_token
from meshtls.server.operations.attestation import Attestation
from meshtls.server.own_svid import ServerIdentity
from meshtls.server.run import background_work
from meshtls.server.services.attestation import AttestationService
from meshtls.server.services.node import NodeService
from meshtls.server.settings import NestedUpstream, ServerConfig
from meshtls.server.signing import Signed, Signing
from meshtls.server.startup import assemble
from meshtls.server.upstream.authority import UpstreamAuthority
from meshtls.serverapi.node import AttestationClient, Attested
from meshtls.serverapi.values import JoinToken
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.context import X509Context
from meshtls.svid.trust import Trust
from meshtls.svid.verifier import CurrentVerifier, PeerVerifier
from meshtls.svid.verify import VerifiedPeer, verify_peer
from meshtls.svid.x509 import X509Svid
from meshtls.workload.background import in_background
from meshtls.workload.client import WorkloadApiClient
from meshtls.workload.x509_source import X509Source
from tests.simulation.disk import KeptCas, KeptGuard, KeptRing, KeptSvid, SimDatabase, StoreFile
from tests.simulation.loop import MachineClock, SimLoop, SimProcess
from tests.simulation.network import Listener, Network, ServerStream, SimChannel

__all__ = [
    "OPERATOR",
    "TD",
    "AgentMachine",
    "Lives",
    "ServerMachine",
    "Setting",
    "WorkloadMachine",
    "certificates_of",
    "der_of",
    "outcome",
]

T = TypeVar("T")
TD = TrustDomain("sim.test")
OPERATOR = Caller(Role.ADMIN, "the operator", credential="the simulation")
_RETRY = 1.0
_ALGORITHM = KeyAlgorithm.P256


@dataclass(frozen=True, slots=True)
class Lives:
    """Lifetimes in seconds."""

    svid: int
    agent: int
    intermediate: int
    root: int


@dataclass(slots=True)
class Setting:
    """Shared by the machines of one run. ``tell`` adds a line to its story; ``signed`` sees what a server signed, and
    ``activated`` the authority that it signs with from then on. ``trust_domain`` is that of the servers, and ``get``
    the network on which they fetch the bundles of others; None where they have none to fetch.
    """

    loop: SimLoop
    network: Network
    choices: random.Random
    lives: Lives
    store: StoreFile
    shared: bool
    killed: Callable[[SimProcess], None]
    tell: Callable[[str, str], None]
    signed: Callable[[str, Signed], None]
    activated: Callable[[str, str], None]
    trust_domain: TrustDomain = TD
    get: Get | None = None

    def jitter(self) -> float:
        return self.choices.uniform(-1, 1)


class _PollingClock(MachineClock):
    """Skips the looks at the store that would find nothing: servers of one store poll it four times a second."""

    _POLLS = (0.25, 1.0)
    _MOST = 10.0

    def __init__(self, loop: SimLoop, store: StoreFile) -> None:
        super().__init__(loop)
        self._store = store
        self._seen: dict[float, int] = {}

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if seconds in self._POLLS:
            waited = 0.0
            while self._seen.get(seconds) == self._store.commits and waited < self._MOST:
                await asyncio.sleep(seconds)
                waited += seconds
            self._seen[seconds] = self._store.commits


class _WatchedSigning(Signing):
    signed: Callable[[Signed], None]
    activated: Callable[[str], None]

    @property
    def authority(self) -> X509Authority:
        return super().authority

    @authority.setter
    def authority(self, authority: X509Authority) -> None:
        self._authority = authority
        self.activated(authority.id)

    def x509(self, *args: Any, **more: Any) -> Signed:
        made = super().x509(*args, **more)
        self.signed(made)
        return made


class ServerMachine:
    """``core`` is that of the present process once it serves, as ``identity`` and ``federation``, which is None where
    the setting has no network for it. ``above`` is the authority above it, if there is one.
    """

    def __init__(
        self, setting: Setting, name: str, number: int, guard: KeptGuard, above: UpstreamAuthority | None = None
    ) -> None:
        self.name = name
        self.server_id = f"00000000-0000-4000-8000-{number:012d}"
        self.clock = _PollingClock(setting.loop, setting.store)
        self.core: Core | None = None
        self.identity: ServerIdentity | None = None
        self.federation: Federation | None = None
        self.process: SimProcess | None = None
        self.serving_since = float("inf")
        self._setting = setting
        self._guard = guard
        self._ring = KeptRing(_ALGORITHM, number)
        self._above = above
        self._held = KeptCas()

    def start(self) -> None:
        self.process = SimProcess(self._setting.loop, self.name, self._setting.killed)
        self.process.spawn(self._run(self.process))

    def stopped(self) -> None:
        self.core = self.identity = self.federation = None
        self.serving_since = float("inf")

    @property
    def serves(self) -> bool:
        return self.core is not None and self.process is not None and self.process.alive

    async def _run(self, process: SimProcess) -> None:
        while True:
            try:
                core, identity = await self._assembled()
                break
            except MeshtlsError as error:
                self._setting.tell(self.name, f"could not start: {error}")
                await asyncio.sleep(_RETRY)
        setting, all_work = self._setting, background_work(core, identity)
        self.core, self.identity, self.serving_since = core, identity, setting.loop.time()
        if setting.get is not None:
            self.federation = Federation(core, setting.jitter, setting.get)
            all_work["follow other trust domains"] = self.federation.run()
        self._listen(core, identity, process)
        setting.tell(self.name, "serves")
        async with asyncio.TaskGroup() as group:
            for name, work in all_work.items():
                group.create_task(work, name=name)

    async def _assembled(self) -> tuple[Core, ServerIdentity]:
        config = self._config()
        database = SimDatabase(self._setting.store, shared=self._setting.shared)
        keys = AuthorityKeys(self._ring, config, self.clock, self._held)
        x509 = next((keys.x509[name] for name in reversed(keys.of("x509"))), None)
        jwt = keys.jwt[keys.of("jwt")[-1]]
        signing = _WatchedSigning(self.server_id, x509, jwt, self._ring.log_key(), self.clock)
        signing.signed = partial(self._setting.signed, self.name)
        signing.activated = partial(self._setting.activated, self.name)
        return await assemble(
            config, self.clock, database, self._guard, signing, keys, self._setting.jitter, self._above
        )

    def _config(self) -> ServerConfig:
        lives = self._setting.lives
        return replace(
            _BASE,
            trust_domain=self._setting.trust_domain,
            upstream=None if self._above is None else _SOMETHING_ABOVE,
            ca_key_type=_ALGORITHM,
            jwt_key_type=_ALGORITHM,
            ca_ttl=timedelta(seconds=lives.intermediate),
            root_ttl=timedelta(seconds=lives.root),
            jwt_key_ttl=timedelta(seconds=lives.root),
            agent_ttl=timedelta(seconds=lives.agent),
            default_x509_svid_ttl=timedelta(seconds=lives.svid),
            default_jwt_svid_ttl=timedelta(seconds=lives.svid),
        )

    def _listen(self, core: Core, identity: ServerIdentity, process: SimProcess) -> None:
        verifier = CurrentVerifier()
        node: ServiceFor = partial(NodeService, core)
        attestation: ServiceFor = partial(AttestationService, core, Attestation(core, Refusals()))

        def mutual(presented: list[bytes]) -> tuple[VerifiedPeer, list[bytes]]:
            context = identity.snapshot()
            return verifier.follow(context).verify(presented, self.clock.now()), der_of(context.svid)

        def anonymous(presented: None) -> tuple[None, list[bytes]]:
            return None, der_of(identity.snapshot().svid)

        for kind, services, shake_hands in (
            (ListenerKind.MUTUAL_TLS, [node], mutual),
            (ListenerKind.ATTESTATION, [attestation], anonymous),
        ):
            calls = CallMetrics(Metrics(), families.RPCS, families.RPC_TIME)
            handle = partial(_serve_call, _Interceptor(kind, services, core.authenticator, calls))
            handshake: Any = partial(_as_handshake, shake_hands)
            self._setting.network.listeners[f"{self.name} {kind.name}"] = Listener(process, handle, handshake)


async def _serve_call(interceptor: _Interceptor, peer: Any, path: str, stream: ServerStream) -> None:
    transport = SimpleNamespace(get_extra_info=lambda name: SimpleNamespace(peer=peer))
    event = SimpleNamespace(method_name=path, method_func=None)
    await interceptor(transport, event)  # type: ignore[arg-type]
    await event.method_func(stream)


def _as_handshake(shake_hands: Callable[[Any], Any], presented: Any) -> Any:
    """What fails in a handshake ends the connection."""
    try:
        return shake_hands(presented)
    except MeshtlsError as error:
        raise ConnectionResetError(f"handshake refused: {error}") from error


class _Address(ServerAddress):
    """Where a server of the simulation is."""

    network: Network

    def mutual_channel(self, identity: NodeIdentity, trust_domain: TrustDomain, clock: Clock) -> Any:
        def check(presented: list[bytes]) -> None:
            context = identity.snapshot()
            _check_server(presented, Trust(1, context.bundles, context.revocations), clock)

        name = f"{self.host} {ListenerKind.MUTUAL_TLS.name}"
        return SimChannel(self.network, name, lambda: der_of(identity.snapshot().svid), check, self.host)

    def attest_channel(self, bundle: TrustBundle, clock: Clock) -> Any:
        name = f"{self.host} {ListenerKind.ATTESTATION.name}"
        check = partial(_check_server, trust=Trust(1, BundleSet([bundle])), clock=clock)
        return SimChannel(self.network, name, lambda: None, check, self.host)


def _check_server(presented: list[bytes], trust: Trust, clock: Clock) -> None:
    try:
        peer = verify_peer(presented, trust, clock.now())
    except PeerError as error:
        raise ConnectionResetError(f"server authentication failed: {error}") from error
    if peer.spiffe_id != server_id(TD):
        raise ConnectionResetError(f"server authentication failed: {peer.spiffe_id}")


class _NewToken:
    """A NodeProof: the operator makes a join token at each attestation."""

    def __init__(self, machine: AgentMachine, server: ServerMachine) -> None:
        self._machine = machine
        self._server = server

    async def attest(self, client: AttestationClient, trust_domain: TrustDomain, csr: bytes) -> Attested:
        server = self._server
        if server.core is None or server.process is None:
            raise LocalIdentityError("no join token: the server is down")
        made = server.process.spawn(outcome(create_join_token(server.core, OPERATOR, alias=self._machine.alias)))
        await asyncio.wait([made], timeout=5)
        token = made.result() if made.done() else None
        if not isinstance(token, JoinToken):
            raise LocalIdentityError(f"no join token: {token}")
        return await client.with_token(token.token, csr)


async def outcome(operation: Awaitable[T]) -> T | MeshtlsError:
    """The result of an operation, or its refusal."""
    try:
        return await operation
    except MeshtlsError as error:
        return error


class _UidAttestor:
    """Gives a caller the selector of its uid."""

    async def attest(self, caller: LocalCaller, _digest_wanted: object = None) -> frozenset[Selector]:
        return frozenset({Selector("unix", f"uid:{caller.credentials.uid}")})


class AgentMachine:
    """A node: its clock is also that of its workloads."""

    def __init__(self, setting: Setting, name: str, server: ServerMachine) -> None:
        self.name = name
        self.alias = SpiffeId(TD, f"/node/{name}")
        self.clock = MachineClock(setting.loop)
        self.server = server
        self.process: SimProcess | None = None
        self.identities: Identities | None = None
        self.identity: NodeIdentity | None = None
        self.uids: dict[str, int] = {}
        self.kept = KeptSvid()
        self._setting = setting

    def start(self, bundle: TrustBundle) -> None:
        """Begin a life. ``bundle`` is the operator's, which counts until there is a kept one."""
        self.process = SimProcess(self._setting.loop, self.name, self._setting.killed)
        self.process.spawn(self._run(self.process, bundle))

    def stopped(self) -> None:
        self.identities = self.identity = None

    @property
    def listener(self) -> str:
        return f"{self.name} workload API"

    async def _run(self, process: SimProcess, bundle: TrustBundle) -> None:
        setting = self._setting
        kept: Any = self.kept
        self.identity = NodeIdentity(bundle, kept, self.clock)
        address = _Address(self.server.name, 1, 2)
        object.__setattr__(address, "network", setting.network)
        proof = _NewToken(self, self.server)
        upstream = ServerUpstream(address, self.identity, proof, self.clock, setting.jitter)
        async with upstream:
            self.identities = identities = Identities(upstream, self.clock, setting.jitter)
            attestor: Any = _UidAttestor()
            api = WorkloadApi(CallerViews(identities, attestor), identities.tokens)
            methods = api.__mapping__()

            async def handle(peer: Any, path: str, stream: ServerStream) -> None:
                callers._CALLER.set(LocalCaller(Credentials(0, self.uids[stream.client], 0)))
                await methods[path].func(stream)

            setting.network.listeners[self.listener] = Listener(process, handle, lambda presented: (None, None))
            await identities.run()


class _SimWorkloadClient(WorkloadApiClient):
    def __init__(self, network: Network, agent: AgentMachine, clock: Clock, jitter: Callable[[], float]) -> None:
        super().__init__(f"unix:///simulated/{agent.name}", clock=clock, jitter=jitter)
        self._network = network
        self._agent = agent

    async def __aenter__(self) -> _SimWorkloadClient:
        channel: Any = SimChannel(
            self._network, self._agent.listener, lambda: None, lambda presented: None, self._agent.name
        )
        self._channel = channel
        self._stub = SpiffeWorkloadAPIStub(channel)
        return self


class WorkloadMachine:
    """A workload with an X509Source: it presents its SVID, verifies peers, and re-checks those that it is connected to.

    ``peers`` are those of its live connections, by the name of the other workload.
    """

    def __init__(self, setting: Setting, name: str, agent: AgentMachine, uid: int) -> None:
        self.name = name
        self.agent = agent
        self.uid = uid
        self.spiffe_id = SpiffeId(TD, f"/{name}")
        self.process: SimProcess | None = None
        self.source: X509Source | None = None
        self.verifier = CurrentVerifier()
        self.peers: dict[str, VerifiedPeer] = {}
        self._setting = setting
        agent.uids[name] = uid

    def start(self) -> None:
        self.verifier = CurrentVerifier()
        self.process = SimProcess(self._setting.loop, self.name, self._setting.killed)
        self.process.spawn(self._run())

    def stopped(self) -> None:
        self.source = None
        self.peers.clear()

    def snapshot(self) -> X509Context | None:
        """The present context; None without a valid SVID."""
        if self.source is None:
            return None
        try:
            context = self.source.snapshot()
        except LocalIdentityError:
            return None
        self.verifier.follow(context)
        return context

    def verify(self, presented: list[bytes]) -> VerifiedPeer:
        """Verify a peer as a handshake does. Raises PeerError."""
        newest = self.verifier.newest
        assert isinstance(newest, PeerVerifier)
        return newest.verify(presented, self.agent.clock.now())

    async def _run(self) -> None:
        setting, clock = self._setting, self.agent.clock
        source = X509Source(f"unix:///simulated/{self.agent.name}", clock=clock, timeout=None, jitter=setting.jitter)
        source._client = _SimWorkloadClient(setting.network, self.agent, clock, setting.jitter)
        async with source:
            self.source = source
            async with in_background(self._drop_withdrawn(source), "drop what is withdrawn"):
                await self._recheck(source)

    async def _recheck(self, source: X509Source) -> None:
        generation = 0
        while True:
            context = await source.changed(generation)
            generation = context.generation
            verifier = self.verifier.follow(context)
            for name, peer in list(self.peers.items()):
                if verifier.distrust(peer) is not None:
                    del self.peers[name]

    async def _drop_withdrawn(self, source: X509Source) -> None:
        while True:
            await source.withdrawn()
            self.peers.clear()
            await source.changed(source._latest.generation)


def der_of(svid: X509Svid) -> list[bytes]:
    return certificates_of(svid.chain)


def certificates_of(chain: Iterable[Certificate]) -> list[bytes]:
    """In DER."""
    return [one.public_bytes(Encoding.DER) for one in chain]


#: That a server has an authority above it; the simulation's own is asked.
_SOMETHING_ABOVE = NestedUpstream("above", 1, "unix:///simulated", is_spire=False)
_BASE = parse_config("simulation.yaml", f"trust_domain: {TD}\nbind_port: 0\ndata_dir: /simulated\n")
