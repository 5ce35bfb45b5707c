"""The pages of a server's admin interface. What administrators do is not here: they call the API, which audits it."""

from __future__ import annotations

from meshtls.admin.certs import bundles_record, context_record
from meshtls.admin.draining import Draining
from meshtls.admin.info import ProcessInfo
from meshtls.admin.levels import logging_page
from meshtls.admin.pages import Page, Pages, Query, Record, prometheus_page, ready_page
from meshtls.admin.plain import plain
from meshtls.admin.serving import admin_notice
from meshtls.bundle import BundleSet
from meshtls.errors import LocalIdentityError, StoreError
from meshtls.observe.readiness import Readiness
from meshtls.rpc.shedding import Refusals
from meshtls.server.core import Core
from meshtls.server.metrics.service import ServerMetrics
from meshtls.server.own_svid import ServerIdentity
from meshtls.server.store.changes import current_revision

__all__ = ["server_pages"]


def server_pages(
    core: Core, identity: ServerIdentity, refusals: Refusals, draining: Draining, metrics: ServerMetrics
) -> Pages:
    """The pages of this running server."""
    info = ProcessInfo(core.config.process, core.clock)
    hub = core.hub

    def certs(query: Query) -> Record:
        now = core.clock.now()
        bundles = BundleSet([hub.bundle, *hub.federated.values()])
        try:
            own: Record = context_record(identity.snapshot(), now)
        except LocalIdentityError as error:
            own = {"missing": str(error)}
        return {"server": own, "tainted": list(hub.tainted), "bundles": bundles_record(bundles, now)}

    async def readiness() -> Readiness:
        try:
            async with core.database.read() as tx:
                await current_revision(tx)
        except StoreError as error:
            return Readiness(False, str(error))
        return draining.readiness(Readiness(True).telling(*core.troubles, admin_notice(core.config.admin)))

    def stats(query: Query) -> Record:
        return {
            "entries": len(hub.index),
            "revision": hub.revision,
            "agents_connected": hub.subscribers,
            "federated_bundles": len(hub.federated),
            "crls": len(hub.crls),
            "refused": {
                f"{listener} {refusal.value}": count
                for (listener, refusal), count in sorted(
                    refusals.counts.items(), key=lambda one: (one[0][0], one[0][1].value)
                )
            },
        }

    def routes(query: Query) -> Record:
        config = core.config
        return {
            "mutual_tls": f"{config.bind_address}:{config.bind_port}",
            "attestation": f"{config.bind_address}:{config.attest_port}",
            "administrators": str(config.socket_path),
            "transparency_log": plain(config.log_listen),
            "revocation": plain(config.revocation_listen),
            "bundle_endpoint": plain(config.bundle_endpoint.listen) if config.bundle_endpoint else None,
            "federates_with": [f"{one.trust_domain} at {one.url}" for one in hub.relations],
        }

    return Pages(
        [
            Page("/certs", "The server's own SVID, and the bundles that it publishes and holds.", certs),
            Page(
                "/config_dump",
                "The configuration in use, without secrets.",
                lambda query: {"config": plain(core.config.file)},
            ),
            Page("/stats", "Counts as of now.", stats),
            prometheus_page(metrics.scrape),
            Page("/connections", "How many agents are connected.", lambda query: {"agents_connected": hub.subscribers}),
            Page("/routes", "The listeners, and the trust domains that it follows.", routes),
            Page("/policies", "How long what it signs lives.", lambda query: _policies(core)),
            ready_page(readiness, core.config.process),
            draining.page(),
            logging_page(),
            Page(
                "/server_info",
                "What runs here, and since when.",
                lambda query: info.record(server_id=core.signing.server_id, state=draining.state),
            ),
        ]
    )


def _policies(core: Core) -> Record:
    config = core.config
    return {
        name: plain(getattr(config, name))
        for name in (
            "ca_ttl",
            "root_ttl",
            "jwt_key_ttl",
            "agent_ttl",
            "default_x509_svid_ttl",
            "default_jwt_svid_ttl",
            "join_token",
        )
    }
