"""A trust domain of ours and one of a real SPIRE exchange their bundles, and each replaces its authority under load."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from meshtls.errors import IdentityWithdrawnError, MeshtlsError
from meshtls.policy.authorizer import authorize_id
from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import issuer_key_id_of
from meshtls.tls.streams import dial, listen
from meshtls.workload.x509_source import X509Source
from tests.integration.federation.sites import Domain, domain
from tests.support.agent import short_directory
from tests.support.ports import free_ports
from tests.support.spire import DOMAIN, PYTHON, Spire, running_spire

WEB, APP = SpiffeId.parse("spiffe://a.test/web"), SpiffeId.parse(f"spiffe://{DOMAIN}/app")
_SECONDS = 240
pytestmark = pytest.mark.timeout(1500)  # many programs are started, on a machine that may be busy


@pytest.fixture(scope="module")
def two() -> Iterator[tuple[Domain, Spire]]:
    """Both federate, and one entry of each has the other's bundle."""
    [port] = free_ports(1)
    endpoint = (
        f'bundle_endpoint {{ address = "127.0.0.1" port = {port} refresh_hint = "10s" profile "https_spiffe" {{}} }}'
    )
    with (
        short_directory() as directory,
        running_spire(directory, federation=f"federation {{ {endpoint} }}") as spire,
        domain("a.test") as a,
    ):
        theirs = spire.tell("bundle", "show", "-format", "spiffe")
        a.federate_with(DOMAIN, f"https://127.0.0.1:{port}/", f"spiffe://{DOMAIN}/spire/server", theirs)
        (directory / "a.json").write_text(a.document())
        spire.tell(
            *("federation", "create", "-trustDomain", "a.test", "-bundleEndpointURL", a.url),
            *("-bundleEndpointProfile", "https_spiffe", "-endpointSpiffeID", a.endpoint_id),
            *("-trustDomainBundlePath", f"{directory}/a.json", "-trustDomainBundleFormat", "spiffe"),
        )
        a.entry("/web", "--federates-with", DOMAIN)
        with spire.entry("/app", PYTHON, "-federatesWith", "spiffe://a.test"):
            yield a, spire


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(_SECONDS):
        while not condition():  # noqa: ASYNC110  # several sources are watched
            await asyncio.sleep(0.1)


def trusted(source: X509Source, spiffe_id: SpiffeId) -> list[bytes]:
    """The authorities that this source has of the trust domain of the ID."""
    bundle = source.snapshot().bundles.get(spiffe_id.trust_domain)
    return [] if bundle is None else [one.tbs_certificate_bytes for one in bundle.x509_authorities]


def is_withdrawn(source: X509Source) -> bool:
    """SPIRE's agent, while it replaces its own tainted SVID, may say for a moment that a workload has no identity."""
    try:
        source.snapshot()
    except IdentityWithdrawnError:
        return True
    return False


class Load:
    """Connections in both directions, one after the other, each of which has to bring a line back."""

    def __init__(self, web: X509Source, app: X509Source, ports: dict[SpiffeId, int]) -> None:
        self.done = 0
        self.failures: list[str] = []
        self._of_spire = app
        self._callers = ((web, APP, ports[APP]), (app, WEB, ports[WEB]))

    async def run(self) -> None:
        while True:
            for source, peer, port in self._callers:
                # It may be over when the caller is told that the other side had no identity.
                withdrawal = asyncio.ensure_future(self._of_spire.withdrawn())
                try:
                    async with asyncio.timeout(_SECONDS):
                        reader, writer = await dial("127.0.0.1", port, source, authorize_id(peer))
                        try:
                            writer.write(b"hello\n")
                            line = await reader.readline()
                        finally:
                            writer.close()
                    if line != b"hello\n":
                        self.failures.append(f"{peer}: {line!r}")
                except (MeshtlsError, OSError) as error:
                    if not (withdrawal.done() or is_withdrawn(self._of_spire)):
                        self.failures.append(f"{peer}: {error!r}")
                finally:
                    withdrawal.cancel()
                self.done += 1
            await asyncio.sleep(0.03)


@asynccontextmanager
async def loaded(a: Domain, spire: Spire) -> AsyncIterator[tuple[X509Source, X509Source, Load]]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async with X509Source(a.workload_api) as web, X509Source(spire.workload_api) as app:
        await until(lambda: bool(trusted(web, APP)) and bool(trusted(app, WEB)))
        async with (
            await listen("127.0.0.1", 0, web, authorize_id(APP), echo) as of_web,
            await listen("127.0.0.1", 0, app, authorize_id(WEB), echo) as of_app,
        ):
            load = Load(web, app, {WEB: of_web.address[1], APP: of_app.address[1]})
            running = asyncio.create_task(load.run())
            try:
                yield web, app, load
                done = load.done
                await until(lambda: load.done > done + 20)
            finally:
                running.cancel()
                await asyncio.wait([running])
            assert (load.failures, load.done > 40) == ([], True)


async def test_no_connection_fails_while_our_side_replaces_its_authority(two: tuple[Domain, Spire]) -> None:
    a, spire = two
    async with loaded(a, spire) as (_, app, _):
        [old] = trusted(app, WEB)

        def seen() -> bool:
            # SPIRE asks by itself after a minute at the earliest.
            spire.tell("federation", "refresh", "-id", "spiffe://a.test")
            return len(trusted(app, WEB)) == 2

        await asyncio.to_thread(a.rotate, seen)
        spire.tell("federation", "refresh", "-id", "spiffe://a.test")
        await until(lambda: len(trusted(app, WEB)) == 1)
        assert trusted(app, WEB) != [old]


async def test_no_connection_fails_while_spire_replaces_its_authority(two: tuple[Domain, Spire]) -> None:
    a, spire = two

    def authority(*words: str) -> Any:
        return json.loads(spire.tell("localauthority", "x509", *words, "-output", "json"))

    def agent_serial() -> str:
        [agent] = json.loads(spire.tell("agent", "list", "-output", "json"))["agents"]
        return str(agent["x509svid_serial_number"])

    async with loaded(a, spire) as (web, app, _):
        [old] = trusted(web, APP)
        active = authority("show")["active"]["authority_id"]
        prepared = authority("prepare")["prepared_authority"]["authority_id"]
        await until(lambda: len(trusted(web, APP)) == 2)  # our server has asked again by itself
        before = agent_serial()
        authority("activate", "-authorityID", prepared)
        authority("taint", "-authorityID", active)
        await until(lambda: not is_withdrawn(app) and issuer_key_id_of(app.snapshot().svid.chain[-1]) == prepared)
        await until(lambda: agent_serial() != before)  # SPIRE's agent, too, or it has no identities for a while
        authority("revoke", "-authorityID", active)
        await until(lambda: len(trusted(web, APP)) == 1)
        assert trusted(web, APP) != [old]
