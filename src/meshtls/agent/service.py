"""The agent: an upstream on one side, the Workload API, SDS and gRPC's health service on a Unix socket on the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from meshtls.agent.attest.attestor import ATTESTORS, Attestor
from meshtls.agent.attest.digests import DEFAULT_SIZE_LIMIT
from meshtls.agent.caller_views import CallerViews
from meshtls.agent.callers import serve_callers
from meshtls.agent.health_check import HealthCheck
from meshtls.agent.identities import Identities
from meshtls.agent.metrics.counting import Counting
from meshtls.agent.probes import serve_health
from meshtls.agent.sds import SecretDiscovery
from meshtls.agent.upstream import Upstream
from meshtls.agent.workload_api import WorkloadApi
from meshtls.clock import Clock, SystemClock
from meshtls.errors import ConfigError
from meshtls.observe.process_name import ProcessKind, ProcessName
from meshtls.observe.readiness import Readiness
from meshtls.rpc.grpc_listener import SetLimits
from meshtls.rpc.limits import DEFAULT_LIMITS, ListenerLimits
from meshtls.rpc.sockets import unix_listener
from meshtls.workload.background import in_background
from meshtls.workload.calls import any_jitter

__all__ = ["Agent", "Endpoint"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how an agent serves.

    - ``attestors``: the types of selectors that attestation returns.
    - ``health``: host and port (0: any free one) for probes, None for no probes.
    - ``size_limit``: larger programs are not hashed, in bytes as for Digests.
    - ``limits``: the share of the socket that each caller may use.
    """

    socket_path: Path
    attestors: tuple[str, ...] = ATTESTORS
    health: tuple[str, int] | None = None
    size_limit: int = DEFAULT_SIZE_LIMIT
    limits: ListenerLimits = DEFAULT_LIMITS


class Agent:
    """A node's agent: attests its callers, and serves them the Workload API and SDS. ``async with`` enters with the
    socket open, and raises ConfigError if the socket can't be created.

    Callers get UNAVAILABLE until the upstream has sent the entries; ``ready`` waits for that. ``jitter`` returns a
    number in [-1, 1] for each renewal.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        upstream: Upstream,
        clock: Clock | None = None,
        *,
        jitter: Callable[[], float] = any_jitter,
    ) -> None:
        self.endpoint = endpoint
        self.identities = Identities(upstream, clock or SystemClock(), jitter)
        self.health_port: int | None = None
        #: What else decides whether it is ready, or has to be told with that.
        self.also: Callable[[], Readiness] = lambda: Readiness(True)
        self.counting = Counting()
        attestor = Attestor(endpoint.attestors, endpoint.size_limit)
        self._callers = CallerViews(self.identities, attestor, self.counting)
        self._open = AsyncExitStack()
        self._set_limits: SetLimits | None = None

    async def __aenter__(self) -> Agent:
        async with AsyncExitStack() as opening:
            _make_directory(self.endpoint.socket_path.parent)
            # Any user may connect: the response depends on the caller's credentials.
            listener = opening.enter_context(unix_listener(self.endpoint.socket_path, 0o666))
            await opening.enter_async_context(in_background(self.identities.run(), "identities"))
            services = (
                WorkloadApi(self._callers, self.identities.tokens),
                SecretDiscovery(self._callers),
                HealthCheck(self.readiness, self.identities.clock),
            )
            serving = serve_callers(services, listener, self.endpoint.limits, self.counting)
            self._set_limits = await opening.enter_async_context(serving)
            if self.endpoint.health:
                health = serve_health(*self.endpoint.health, self.readiness, self.process)
                self.health_port = await opening.enter_async_context(health)
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._open.aclose()

    def set_limits(self, limits: ListenerLimits) -> None:
        """Change the share of the socket that each caller may use. Call it while the agent is entered."""
        if self._set_limits:
            self._set_limits(limits)

    async def ready(self) -> None:
        """Wait until the entries are known and every SVID was signed, or refused, once."""
        await self.identities.until_ready()

    def readiness(self) -> Readiness:
        """Whether every entry has a valid SVID now, why not, or for how long while the upstream is away."""
        state, also = self.identities.readiness(), self.also()
        return state.telling(also.text) if also.ready else also

    @property
    def address(self) -> str:
        """The value for a workload's SPIFFE_ENDPOINT_SOCKET."""
        return f"unix://{self.endpoint.socket_path}"

    @property
    def process(self) -> ProcessName:
        """Which agent this is, for those that ask it by a port."""
        domain = self.identities.upstream.trust_domain
        return ProcessName(ProcessKind.AGENT, str(self.endpoint.socket_path), str(domain))

    def __repr__(self) -> str:
        return f"<Agent {self.address} {self.identities.cache!r}>"


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{directory}: wanted a directory for the agent's socket: {error.strerror}") from error
