"""A running server: opens its parts in order, runs its background tasks, and closes everything at the end.

A server accepts calls only once it is ready: its data directory is locked, its schema current, its authorities are in
the published bundle, and its own SVID is signed and recorded.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from meshtls.address import Address
from meshtls.admin.draining import Draining
from meshtls.admin.serving import serving_admin
from meshtls.clock import Clock, SystemClock
from meshtls.config.changes import Changes
from meshtls.errors import ConfigError
from meshtls.logs import logger
from meshtls.policy.authorizer import Authorizer, Decision, Target
from meshtls.registration import is_agent_id, spire_server_id
from meshtls.rpc.descriptors import within_descriptors
from meshtls.rpc.grpc_listener import SetLimits
from meshtls.rpc.scrapes import serving_scrapes
from meshtls.rpc.shedding import Refusal, Refusals
from meshtls.rpc.sockets import tcp_listener, unix_listener
from meshtls.rpc.turns import Turns
from meshtls.server.access import ListenerKind
from meshtls.server.admin import server_pages
from meshtls.server.bundle_endpoint import serving_bundle
from meshtls.server.config import reloaded
from meshtls.server.core import Core
from meshtls.server.federating import Federation
from meshtls.server.hub import Hub
from meshtls.server.listeners import ServiceFor, Shared, serve_listener
from meshtls.server.log_publishing import keep_published, serving_log
from meshtls.server.metrics.service import ServerMetrics
from meshtls.server.operations.attestation import Attestation
from meshtls.server.own_svid import ServerIdentity
from meshtls.server.revocation_publishing import serving_revocations
from meshtls.server.revocation_upkeep import keep_revocations
from meshtls.server.rotating import keep_authorities
from meshtls.server.services.agents import AgentsService
from meshtls.server.services.attestation import AttestationService
from meshtls.server.services.authorities import AuthoritiesService
from meshtls.server.services.bundles import BundlesService
from meshtls.server.services.downstream import DownstreamBundleService, DownstreamCaService
from meshtls.server.services.entries import EntriesService
from meshtls.server.services.federation import FederationService
from meshtls.server.services.health import HealthService
from meshtls.server.services.log import LogService
from meshtls.server.services.node import NodeService
from meshtls.server.services.revocations import RevocationsService
from meshtls.server.services.svids import SvidsService
from meshtls.server.settings import ServerConfig
from meshtls.server.startup import node_roots, opened_core
from meshtls.server.upkeep import keep_clean
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.bootstrap import AnonymousClientsServerContext
from meshtls.tls.context import TlsOptions
from meshtls.tls.rotating import server_context
from meshtls.workload.background import in_background
from meshtls.workload.calls import any_jitter

__all__ = ["RunningServer", "background_work", "running_server"]

_ALPN = ("h2",)
#: Descriptors per connection of the server port; the attestation port accepts a quarter as many connections.
_DESCRIPTORS = 2

log = logger("meshtls.server")


def _runs_elsewhere(wanted: ServerConfig) -> Changes:
    raise ConfigError("this server runs in another process: send SIGHUP to that")


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A running server.

    - ``address``: the listener for agents and administrators; ``attest_address``: the one for new nodes.
    - ``log_port``, ``revocation_port``: those of the transparency log and of CRLs over HTTP, if they are served.
    - ``spire_port``: the one for SPIRE servers below this one, if there is one.
    - ``bundle_port``: that of the bundle endpoint, if there is one.
    - ``metrics``: the address for scrapes, if there is one.
    - ``refusals``: counts the listeners' refusals.
    - ``reload``: applies the live keys of a configuration, and returns the keys that differ. Raises ConfigError, and
      changes nothing, if a file that the configuration names can't be used.
    """

    address: tuple[str, int]
    attest_address: tuple[str, int]
    socket_path: Path
    server_id: str
    log_port: int | None = None
    revocation_port: int | None = None
    spire_port: int | None = None
    bundle_port: int | None = None
    metrics: Address | None = None
    refusals: Refusals = field(default_factory=Refusals)
    reload: Callable[[ServerConfig], Changes] = field(default=_runs_elsewhere, repr=False, compare=False)


@asynccontextmanager
async def running_server(
    config: ServerConfig, clock: Clock = SystemClock(), refused: Callable[[str, Refusal], None] | None = None
) -> AsyncIterator[RunningServer]:
    """Serve while the body runs, which is entered once the server is ready. Raises ConfigError or StoreError.

    ``refused`` is a hook for metrics, called with the listener's name and the reason of each refusal.
    """
    for notice in config.notices:
        log.warning("%s", notice)
    async with AsyncExitStack() as opened:
        core, identity = await opened.enter_async_context(opened_core(config, clock))
        as_spire = await _identity_as_spire(core) if config.downstream_spire_listen else None
        federation = Federation(core, any_jitter)
        await federation.set_configured_bundles()
        metrics, draining = ServerMetrics(core), Draining()
        listening = await _listen(core, identity, as_spire, federation, opened, Refusals(refused), metrics)
        metrics.follow(identity, federation, listening.refusals, lambda: not draining.begun)
        listening = replace(
            listening,
            log_port=await opened.enter_async_context(serving_log(core)),
            revocation_port=await opened.enter_async_context(serving_revocations(core)),
            bundle_port=await opened.enter_async_context(serving_bundle(core, identity)),
            metrics=await opened.enter_async_context(serving_scrapes(config.metrics, metrics.scrape)),
        )
        pages = server_pages(core, identity, listening.refusals, draining, metrics)
        await opened.enter_async_context(serving_admin(config.admin, pages))
        for name, work in (
            *background_work(core, identity, as_spire).items(),
            ("follow other trust domains", federation.run()),
        ):
            await opened.enter_async_context(in_background(work, name))
        log.info("server %s of %s answers on %s:%d", listening.server_id, config.trust_domain, *listening.address)
        yield listening


def background_work(
    core: Core, identity: ServerIdentity, as_spire: ServerIdentity | None = None
) -> dict[str, Coroutine[None, None, None]]:
    """What runs beside the listeners, by name. Each runs forever."""
    for_spire = {"keep the SVID for SPIRE servers below": as_spire.keep()} if as_spire else {}
    identities = (identity, as_spire) if as_spire else (identity,)
    return for_spire | {
        "follow changes": core.hub.follow(),
        "keep the own SVID": identity.keep(),
        "keep the authorities": keep_authorities(core, *identities),
        "follow revocations": keep_revocations(core, *identities),
        "publish the transparency log": keep_published(core),
        "clean up": keep_clean(
            core.hub, core.database, core.clock, core.trail, core.config.audit_records, core.authorities.jumps
        ),
    }


async def _identity_as_spire(core: Core) -> ServerIdentity:
    """This server's identity for SPIRE servers below it, which accept only the ID of SPIRE's servers."""
    domain = core.config.trust_domain
    identity = ServerIdentity(domain, core.signing, core.ledger, core.clock, spiffe_id=spire_server_id(domain))
    core.hub.also_trust(identity.trust)
    await identity.renew()
    return identity


async def _listen(
    core: Core,
    identity: ServerIdentity,
    as_spire: ServerIdentity | None,
    federation: Federation,
    opened: AsyncExitStack,
    refusals: Refusals,
    metrics: ServerMetrics,
) -> RunningServer:
    config = core.config
    mutual = server_context(identity, _admitted(core.hub), options=TlsOptions(alpn=_ALPN), clock=core.clock)
    anonymous = AnonymousClientsServerContext.over(identity, _ALPN)
    administration: list[ServiceFor] = [
        partial(service, core)
        for service in (
            EntriesService,
            AgentsService,
            SvidsService,
            BundlesService,
            AuthoritiesService,
            RevocationsService,
            HealthService,
            LogService,
        )
    ]
    administration.append(partial(FederationService, core, federation))
    node: ServiceFor = partial(NodeService, core)
    downstream: list[ServiceFor] = [partial(DownstreamCaService, core), partial(DownstreamBundleService, core)]
    attestation: ServiceFor = partial(AttestationService, core, Attestation(core, refusals))
    limits = within_descriptors(config.limits, _DESCRIPTORS)
    shared = Shared(limits, Turns(), refusals, metrics.calls)
    tls = opened.enter_context(tcp_listener(config.bind_address, config.bind_port, name="bind_port"))
    attest = opened.enter_context(tcp_listener(config.bind_address, config.attest_port, name="attest_port"))
    local = opened.enter_context(unix_listener(config.socket_path, 0o600))
    listeners: list[tuple[ListenerKind, list[ServiceFor], socket.socket, ssl.SSLContext | None]] = [
        (ListenerKind.ADMIN_SOCKET, administration, local, None),
        (ListenerKind.MUTUAL_TLS, [node, *downstream, *administration], tls, mutual),
        (ListenerKind.ATTESTATION, [attestation], attest, anonymous),
    ]
    spire_port = None
    if as_spire is not None and (wanted := config.downstream_spire_listen):
        accepting = opened.enter_context(tcp_listener(wanted.host, wanted.port, name="downstream_spire_listen"))
        context = server_context(as_spire, _is_downstream(core.hub), options=TlsOptions(alpn=_ALPN), clock=core.clock)
        listeners.append((ListenerKind.MUTUAL_TLS, downstream, accepting, context))
        spire_port = _address(accepting)[1]
    setters: list[SetLimits] = []
    for listener, services, sock, context_of in listeners:
        serving = serve_listener(listener, services, core.authenticator, sock, shared, context_of)
        setters.append(await opened.enter_async_context(serving))

    def reload(wanted: ServerConfig) -> Changes:
        config, changes = reloaded(core.config, wanted)
        core.node_roots = node_roots(config.x509pop)
        core.config = config
        limits = within_descriptors(config.limits, _DESCRIPTORS)
        for set_limits in setters:
            set_limits(limits)
        return changes

    address, attest_address = _address(tls), _address(attest)
    return RunningServer(
        address,
        attest_address,
        config.socket_path,
        core.signing.server_id,
        spire_port=spire_port,
        refusals=refusals,
        reload=reload,
    )


def _admitted(hub: Hub) -> Authorizer:
    """The authorizer of the handshake; each call is authenticated again."""

    def decide(peer: VerifiedPeer, target: Target) -> Decision:
        name, index = peer.spiffe_id, hub.index
        if is_agent_id(name) or index.is_admin(name) or index.downstream(name) is not None:
            return Decision(True, f"peer {name} may call the server")
        return Decision(
            False, f"peer {name}: wanted an agent, or an identity whose entry is marked admin or downstream"
        )

    return decide


def _is_downstream(hub: Hub) -> Authorizer:
    def decide(peer: VerifiedPeer, target: Target) -> Decision:
        name = peer.spiffe_id
        if hub.index.downstream(name) is not None:
            return Decision(True, f"peer {name} may call the server")
        return Decision(False, f"peer {name}: wanted an identity whose entry is marked downstream")

    return decide


def _address(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return host, port
