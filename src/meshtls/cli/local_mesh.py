"""A whole mesh in one process: a CA, a sidecar for each file of a directory, and a small app behind each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from meshtls.ca.authority import Authority
from meshtls.ca.keys.disk import DiskKeys
from meshtls.ca.records import IssuanceLog
from meshtls.cli.demo_app import DemoApp, serve_app
from meshtls.clock import Clock, SystemClock
from meshtls.errors import ConfigError
from meshtls.identity.issuer import LocalIssuer
from meshtls.identity.rotating import RotatingSource
from meshtls.observe.events import ConnectionResult
from meshtls.sidecar.address import Address
from meshtls.sidecar.config import load_config
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.settings import SidecarConfig
from meshtls.spiffeid import TrustDomain

__all__ = ["LocalMesh", "Member", "load_directory", "local_mesh"]


@dataclass(frozen=True, slots=True)
class Member:
    """One sidecar, its identity, and the addresses of the app behind it; ``app`` is None where it has no inbound."""

    config: SidecarConfig
    source: RotatingSource
    sidecar: Sidecar
    app: Address | None

    @property
    def name(self) -> str:
        return self.config.name


@dataclass(frozen=True, slots=True)
class LocalMesh:
    """What ``local_mesh`` gives while it runs."""

    authority: Authority
    records: IssuanceLog
    members: tuple[Member, ...]
    clock: Clock

    @property
    def calls(self) -> tuple[tuple[Member, Member], ...]:
        """Who can call whom: each sidecar whose first outbound leads to another's inbound."""
        return tuple((one, other) for one in self.members for other in self.members if _leads(one, other))

    def expiry(self, serial: str | None) -> datetime | None:
        """When the certificate of this serial ends, by the CA's own record."""
        return next((record.not_after for record in self.records.records if record.serial == serial), None)


def load_directory(directory: Path) -> tuple[SidecarConfig, ...]:
    """The sidecars of ``*.yaml`` in this directory, not below it. Raises ConfigError."""
    files = sorted(directory.glob("*.yaml"))
    if not files:
        raise ConfigError(f"{directory}: wanted at least one sidecar's file, *.yaml; found none")
    configs = tuple(load_config(file) for file in files)
    domains = {config.spiffe_id.trust_domain for config in configs}
    if len(domains) > 1:
        names = ", ".join(sorted(map(str, domains)))
        raise ConfigError(f"{directory}: wanted sidecars of one trust domain, found those of {names}")
    return configs


@asynccontextmanager
async def local_mesh(
    configs: Sequence[SidecarConfig],
    svid_ttl: timedelta,
    data_dir: Path | None,
    on_result: Callable[[ConnectionResult], None],
) -> AsyncIterator[LocalMesh]:
    """Enters with every listener bound and every SVID issued. Raises ConfigError or LocalIdentityError."""
    async with AsyncExitStack() as stack:
        records, clock = IssuanceLog(), SystemClock()
        authority = _authority(configs[0].spiffe_id.trust_domain, clock, svid_ttl, data_dir, records)
        stack.callback(authority.close)
        members = [await _member(stack, config, authority, clock, on_result) for config in configs]
        yield LocalMesh(authority, records, tuple(members), clock)


def _authority(
    trust_domain: TrustDomain, clock: Clock, svid_ttl: timedelta, data_dir: Path | None, records: IssuanceLog
) -> Authority:
    keys = DiskKeys(data_dir) if data_dir else None
    return Authority.create(trust_domain, clock, svid_ttl=svid_ttl, keys=keys, recorder=records)


async def _member(
    stack: AsyncExitStack,
    config: SidecarConfig,
    authority: Authority,
    clock: Clock,
    on_result: Callable[[ConnectionResult], None],
) -> Member:
    source = await stack.enter_async_context(RotatingSource(LocalIssuer(authority, config.spiffe_id), clock))
    sidecar = await stack.enter_async_context(Sidecar(config, source, on_result=on_result, clock=clock))
    app = None
    if config.inbound:
        call = sidecar.outbound[0].address if sidecar.outbound else None
        app = await stack.enter_async_context(serve_app(DemoApp(config.name, call), config.inbound[0].app))
    return Member(config, source, sidecar, app)


def _leads(one: Member, other: Member) -> bool:
    if one.app is None or not one.config.outbound or not other.config.inbound:
        return False
    way = one.config.outbound[0]
    return way.peer == other.config.spiffe_id and way.to == other.config.inbound[0].listen
