"""A real server and a real agent on the machine's clock, with SVIDs that live for seconds, over several renewals."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil

from cryptography import x509

from meshtls.agent.node.own_svid import NodeIdentity
from meshtls.agent.node.proof import JoinToken
from meshtls.agent.node.upstream import ServerAddress, ServerUpstream
from meshtls.agent.service import Agent, Endpoint
from meshtls.clock import SystemClock
from meshtls.workload.x509_source import X509Source
from tests.support.agent import SELF, short_directory
from tests.support.server import config_for, entry, started

LIFE = timedelta(seconds=20)  # a machine that stalls for seconds misses no renewal
RENEWALS = 2
#: Seconds. A certificate's times are whole seconds, so a life of 20 s may be one of 19 s; and 10 % is jitter.
SHORTEST_HALF_LIFE = 8.55


@dataclass(slots=True)
class Holder:
    """Records presented certificates, and checks that each is valid when it is presented."""

    serials: set[int] = field(default_factory=set)

    def shows(self, leaf: x509.Certificate) -> None:
        now = datetime.now(UTC)
        assert leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc
        self.serials.add(leaf.serial_number)


async def leaf_shown_at(address: tuple[str, int]) -> x509.Certificate:
    """The certificate that the server presents to a client that has none and verifies nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection(*address, ssl=context)
    try:
        return x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    finally:
        writer.close()


async def test_svids_of_twenty_seconds_are_renewed_again_and_again_without_a_gap() -> None:
    clock, begun = SystemClock(), datetime.now(UTC)
    with short_directory() as directory:
        config = config_for(directory, ca_ttl=2 * LIFE, agent_ttl=LIFE, default_x509_svid_ttl=LIFE)
        async with started(config, clock) as server:
            token = await server.admin.create_join_token()
            await server.admin.create_entries([entry("/web", token.agent_id, SELF)])
            host, port = server.running.address
            address = ServerAddress(host, port, server.running.attest_address[1])
            node = NodeIdentity(await server.admin.bundle(), None, clock)
            upstream = ServerUpstream(address, node, JoinToken(token.token), clock)
            the_server, the_agent, the_workload = holders = Holder(), Holder(), Holder()
            async with upstream, Agent(Endpoint(directory / "agent.sock"), upstream, clock) as agent:
                await agent.ready()
                async with X509Source(agent.address) as source:
                    while min(len(holder.serials) for holder in holders) <= RENEWALS:
                        the_server.shows(await leaf_shown_at(server.running.attest_address))
                        the_agent.shows(node.snapshot().svid.leaf)
                        the_workload.shows(source.snapshot().svid.leaf)
                        assert agent.readiness().ready
                        await asyncio.sleep(0.05)
            issued = Counter([one.spiffe_id async for one in server.admin.issuances() if one.kind == "x509"])
    # No SVID is renewed more often than at half-life: a renewal that is due at once would repeat endlessly.
    most = 1 + ceil((datetime.now(UTC) - begun).total_seconds() / SHORTEST_HALF_LIFE)
    assert len(issued) == 3
    assert max(issued.values()) <= most
