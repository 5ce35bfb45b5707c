"""A running server: opens its parts in order, runs its background tasks, and closes everything at the end.

A server accepts calls only once it is ready: its data directory is locked, its schema current, its authorities are in
the published bundle, and its own SVID is signed and recorded.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from meshtls.clock import Clock, SystemClock
from meshtls.config.changes import Changes
from meshtls.errors import ConfigError
from meshtls.logs import logger
from meshtls.policy.authorizer import Authorizer, Decision, Target
from meshtls.registration import is_agent_id
from meshtls.rpc.descriptors import within_descriptors
from meshtls.rpc.grpc_listener import SetLimits
from meshtls.rpc.shedding import Refusal, Refusals
from meshtls.rpc.sockets import tcp_listener, unix_listener
from meshtls.rpc.turns import Turns
from meshtls.server.access import Listener
from meshtls.server.config import reloaded
from meshtls.server.core import Core
from meshtls.server.hub import Hub
from meshtls.server.listeners import ServiceFor, Shared, serve_listener
from meshtls.server.operations.attestation import Attestation
from meshtls.server.own_svid import ServerIdentity
from meshtls.server.services.agents import AgentsService
from meshtls.server.services.attestation import AttestationService
from meshtls.server.services.bundles import BundlesService
from meshtls.server.services.entries import EntriesService
from meshtls.server.services.health import HealthService
from meshtls.server.services.node import NodeService
from meshtls.server.services.svids import SvidsService
from meshtls.server.settings import ServerConfig
from meshtls.server.startup import node_roots, opened_core
from meshtls.server.upkeep import keep_clean
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.bootstrap import AnonymousClientsServerContext
from meshtls.tls.context import TlsOptions
from meshtls.tls.rotating import server_context
from meshtls.workload.background import in_background

__all__ = ["RunningServer", "running_server"]

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
    - ``refusals``: counts the listeners' refusals.
    - ``reload``: applies the live keys of a configuration, and returns the keys that differ. Raises ConfigError, and
      changes nothing, if a file that the configuration names can't be used.
    """

    address: tuple[str, int]
    attest_address: tuple[str, int]
    socket_path: Path
    server_id: str
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
        listening = await _listen(core, identity, opened, Refusals(refused))
        for name, work in (
            ("follow changes", core.hub.follow()),
            ("keep the own SVID", identity.keep()),
            ("clean up", keep_clean(core.hub, core.database, clock)),
        ):
            await opened.enter_async_context(in_background(work, name))
        log.info("server %s of %s answers on %s:%d", listening.server_id, config.trust_domain, *listening.address)
        yield listening


async def _listen(core: Core, identity: ServerIdentity, opened: AsyncExitStack, refusals: Refusals) -> RunningServer:
    config = core.config
    mutual = server_context(identity, _admitted(core.hub), options=TlsOptions(alpn=_ALPN), clock=core.clock)
    anonymous = AnonymousClientsServerContext.over(identity, _ALPN)
    administration: list[ServiceFor] = [
        partial(service, core)
        for service in (EntriesService, AgentsService, SvidsService, BundlesService, HealthService)
    ]
    node: ServiceFor = partial(NodeService, core)
    attestation: ServiceFor = partial(AttestationService, core, Attestation(core, refusals))
    limits = within_descriptors(config.limits, _DESCRIPTORS)
    shared = Shared(limits, Turns(), refusals)
    tls = opened.enter_context(tcp_listener(config.bind_address, config.bind_port))
    attest = opened.enter_context(tcp_listener(config.bind_address, config.attest_port))
    local = opened.enter_context(unix_listener(config.socket_path, 0o600))
    setters: list[SetLimits] = []
    for listener, services, sock, context in (
        (Listener.ADMIN_SOCKET, administration, local, None),
        (Listener.MUTUAL_TLS, [node, *administration], tls, mutual),
        (Listener.ATTESTATION, [attestation], attest, anonymous),
    ):
        serving = serve_listener(listener, services, core.authenticator, sock, shared, context)
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
    return RunningServer(address, attest_address, config.socket_path, core.signing.server_id, refusals, reload)


def _admitted(hub: Hub) -> Authorizer:
    """The authorizer of the handshake; each call is authenticated again."""

    def decide(peer: VerifiedPeer, target: Target) -> Decision:
        if is_agent_id(peer.spiffe_id) or hub.index.is_admin(peer.spiffe_id):
            return Decision(True, f"peer {peer.spiffe_id} may call the server")
        return Decision(False, f"peer {peer.spiffe_id}: wanted an agent, or an identity whose entry is marked admin")

    return decide


def _address(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return host, port
