"""A whole mesh in one process: a CA, a sidecar for each file of a directory, and a small app behind each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from meshtls.address import Address
from meshtls.ca.authority import Authority
from meshtls.ca.keys.disk import DiskKeys
from meshtls.ca.records import IssuanceLog
from meshtls.cli.demo.app import DemoApp, serve_app
from meshtls.clock import Clock, SystemClock
from meshtls.errors import ConfigError
from meshtls.identity.issuer import LocalIssuer
from meshtls.identity.rotating import RotatingSource
from meshtls.observe.events import ConnectionResult
from meshtls.sidecar.config import load_config
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.settings import SidecarConfig

__all__ = ["LocalMesh", "Member", "load_directory", "local_mesh"]


@dataclass(frozen=True, slots=True)
class Member:
    """One sidecar, its identity, and the address of its app; ``app`` is None if there is no inbound listener."""

    config: SidecarConfig
    source: RotatingSource
    sidecar: Sidecar
    app: Address | None

    @property
    def name(self) -> str:
        return self.config.name


@dataclass(frozen=True, slots=True)
class LocalMesh:
    """A running mesh."""

    authority: Authority
    records: IssuanceLog
    members: tuple[Member, ...]
    clock: Clock

    @property
    def calls(self) -> tuple[tuple[Member, Member], ...]:
        """The pairs of caller and callee: the caller's first outbound leads to the callee's first inbound."""
        return tuple(
            (caller, callee)
            for caller in self.members
            if caller.app and caller.config.outbound
            for callee in self.members
            if callee.config.inbound
            and caller.config.outbound[0].peer == callee.config.spiffe_id
            and caller.config.outbound[0].to == callee.config.inbound[0].listen
        )

    def expiry(self, serial: str | None) -> datetime | None:
        """When the certificate with this serial expires, by the CA's record; None if the serial is unknown."""
        return next((record.not_after for record in self.records.records if record.serial == serial), None)


def load_directory(directory: Path) -> tuple[SidecarConfig, ...]:
    """The sidecars of the ``*.yaml`` files in this directory, without its subdirectories. Raises ConfigError."""
    files = sorted(directory.glob("*.yaml"))
    if not files:
        raise ConfigError(f"{directory}: wanted at least one sidecar file, *.yaml; found none")
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
    """Run a mesh. Enters when every listener is bound and every SVID issued.

    Raises ConfigError or LocalIdentityError.
    """
    async with AsyncExitStack() as stack:
        records, clock = IssuanceLog(), SystemClock()
        authority = Authority.create(
            configs[0].spiffe_id.trust_domain,
            clock,
            svid_ttl=svid_ttl,
            keys=DiskKeys(data_dir) if data_dir else None,
            recorder=records,
        )
        stack.callback(authority.close)
        members = []
        for config in configs:
            issuer = LocalIssuer(authority, config.spiffe_id)
            source = await stack.enter_async_context(RotatingSource(issuer, clock))
            sidecar = await stack.enter_async_context(Sidecar(config, source, on_result=on_result, clock=clock))
            app = None
            if config.inbound:
                call = sidecar.outbound[0].address if sidecar.outbound else None
                app = await stack.enter_async_context(serve_app(DemoApp(config.name, call), config.inbound[0].app))
            members.append(Member(config, source, sidecar, app))
        yield LocalMesh(authority, records, tuple(members), clock)
