"""A server below another one, in one process: what it follows, also while the one above can't be reached."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from meshtls.bundle import JwtAuthority
from meshtls.ca.authority_states import AuthorityStep
from meshtls.clock import Clock
from meshtls.errors import LocalIdentityError
from meshtls.registration import server_id
from meshtls.server import startup
from meshtls.server.access import Caller, ListenerKind, Role
from meshtls.server.core import Core
from meshtls.server.operations import downstream, entries
from meshtls.server.operations.downstream import DownstreamBundle
from meshtls.server.settings import NestedUpstream, ServerConfig
from meshtls.server.startup import opened_core
from meshtls.server.store import authorities, bundles
from meshtls.server.store.authorities import DOWNSTREAM
from meshtls.server.store.bundles import jwt_authority
from meshtls.server.upkeep import clean_up
from meshtls.server.upstream.authority import UpstreamAuthority
from meshtls.serverapi.upstream import UpstreamBundle, UpstreamCa, UpstreamKey
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer
from meshtls.svid.x509 import fingerprint_of
from tests.support.clock import ManualClock
from tests.support.server import TD, config_for, entry

ADMIN = Caller(Role.ADMIN, "uid 0")
BELOW, WEB = SpiffeId(TD, "/below"), SpiffeId(TD, "/web")


class Above:
    """An upstream authority that calls the operations of the server above; ``down``: it can't be reached."""

    name = "above"

    def __init__(self, core: Core) -> None:
        self.core = core
        self.down = False

    async def caller(self) -> Caller:
        """The server below, as the server above authenticates it."""
        if self.down:
            raise LocalIdentityError("the server above is down")
        key = ec.generate_private_key(ec.SECP256R1())
        svid = self.core.signing.x509(BELOW, key.public_key(), timedelta(hours=1))
        await self.core.ledger.commit(self.core.trail.record(None, "mint", BELOW), [svid])
        peer = VerifiedPeer(BELOW, svid.chain)
        return await self.core.authenticator.authenticate(ListenerKind.MUTUAL_TLS, peer, wanted=Role.DOWNSTREAM)

    async def sign_ca(self, csr: bytes, ttl: timedelta) -> UpstreamCa:
        made = await downstream.new_downstream_ca(self.core, await self.caller(), csr, int(ttl.total_seconds()))
        return UpstreamCa(made.chain, made.authorities)

    async def bundle(self) -> UpstreamBundle:
        found = await downstream.downstream_bundle(self.core, await self.caller())
        roots = found.bundle.x509_authorities
        tainted = frozenset(one for one in roots if fingerprint_of(one) in found.tainted)
        return UpstreamBundle(roots, tainted, keys_of(found), found.issuer, complete=True)

    async def publish(self, kid: str, key: JwtAuthority, ends_at: datetime) -> Mapping[str, UpstreamKey]:
        der, ends = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), int(ends_at.timestamp())
        return keys_of(await downstream.publish_jwt_authority(self.core, await self.caller(), kid, der, ends))

    def on_change(self, changed: Callable[[], None]) -> None:
        """It tells of nothing."""


def keys_of(found: DownstreamBundle) -> Mapping[str, UpstreamKey]:
    keys = found.bundle.jwt_authorities
    return {kid: UpstreamKey(keys[kid], found.ends[kid], kid in found.tainted) for kid in keys if kid in found.ends}


@dataclass
class Tree:
    """A server, the one below it, and how that reaches it."""

    above: Core
    below: Core
    source: Above
    clock: ManualClock
    config: ServerConfig

    async def tick(self, times: int = 3) -> None:
        for _ in range(times):
            await self.below.authorities.tick()
            self.clock.advance(2)


@pytest.fixture
async def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tree]:
    clock, directories = ManualClock(), [tmp_path / "above", tmp_path / "below"]
    for one in directories:
        one.mkdir()
    async with opened_core(config_for(directories[0]), clock) as (above, _):
        await register(above)
        source = Above(above)

        @asynccontextmanager
        async def opened(config: ServerConfig, own_id: str, clock: Clock) -> AsyncIterator[UpstreamAuthority | None]:
            yield source if config.upstream else None

        monkeypatch.setattr(startup, "_opened_upstream", opened)
        config = replace(config_for(directories[1]), upstream=NestedUpstream("above", 1, "unix:///x", False))
        async with opened_core(config, clock) as (below, _):
            made = Tree(above, below, source, clock, config)
            await made.tick()
            yield made


async def register(core: Core) -> None:
    await entries.create_entries(core, ADMIN, [entry("/below", server_id(TD), downstream=True)])


async def lose_by_revocation(tree: Tree) -> None:
    """As another server of the store does that has learned it from above."""
    core, now = tree.below, tree.clock.now()
    async with core.database.write() as tx:
        [root] = [one for one in await authorities.locked_authorities(tx) if one.id == core.signing.authority.id]
        for step in (AuthorityStep.RETIRE, AuthorityStep.REVOKE):
            root = await authorities.move(tx, TD, root, step, now)
    await core.hub.written()


async def lose_by_expiry(tree: Tree) -> None:
    core = tree.below
    left = core.signing.authority.root.not_valid_after_utc - tree.clock.now()
    tree.clock.advance(left.total_seconds() + 10)
    for one in (core, tree.above):
        await clean_up(one.hub, one.database, tree.clock, one.trail, 1000)
    await tree.above.authorities.tick()


@pytest.mark.parametrize("lose", [lose_by_revocation, lose_by_expiry])
async def test_a_server_whose_root_is_gone_while_the_one_above_is_down_waits_for_another_ca(
    tree: Tree, lose: Callable[[Tree], Awaitable[None]]
) -> None:
    before, tree.source.down = tree.below.signing.authority, True
    await lose(tree)
    await tree.tick()
    assert tree.below.signing.authority.id == before.id
    if lose is lose_by_revocation:
        await tree.above.authorities.prepare("x509")
        await tree.above.authorities.activate("x509")
    tree.source.down = False
    await tree.tick(10)
    assert tree.below.signing.authority.id == tree.above.signing.authority.id != before.id
    assert before.id not in tree.below.authorities.keys.x509


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_jwt_key_that_was_revoked_above_while_its_server_was_away_is_replaced(
    tree: Tree, restarted: bool
) -> None:
    kid, tree.source.down = tree.below.signing.jwt_key.kid, True
    await tree.above.authorities.taint("jwt", kid)
    tree.clock.advance(11)
    await tree.above.authorities.revoke("jwt", kid)
    tree.source.down = False
    if restarted:
        assert tree.below.authorities._upstream is not None
        tree.below.authorities._upstream.seen_above.clear()
    await tree.tick()
    signs = tree.below.signing.jwt_key.kid
    assert signs != kid
    assert kid not in tree.below.authorities.keys.jwt
    for core in (tree.below, tree.above):
        assert signs in core.hub.bundle.jwt_authorities
        assert kid not in core.hub.bundle.jwt_authorities


async def test_a_prepared_jwt_key_that_was_revoked_above_is_not_used(tree: Tree) -> None:
    signs, prepared = tree.below.signing.jwt_key.kid, (await tree.below.authorities.prepare("jwt")).id
    await tree.tick()
    assert prepared in tree.above.hub.bundle.jwt_authorities
    await tree.above.authorities.revoke("jwt", prepared, force=True)
    await tree.tick()
    assert tree.below.signing.jwt_key.kid == signs
    assert prepared not in tree.below.hub.bundle.jwt_authorities


async def test_a_jwt_key_of_a_server_two_below_is_tainted_and_revoked_in_between_as_above(tree: Tree) -> None:
    await register(tree.below)
    between = Above(tree.below)
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    await between.publish("grandchild", key, tree.clock.now() + timedelta(days=1))
    kept = set(tree.below.hub.bundle.jwt_authorities)
    assert "grandchild" in kept & set(tree.above.hub.bundle.jwt_authorities)
    await tree.tick(1)
    await tree.above.authorities.taint("jwt", "grandchild")
    await tree.tick(1)
    keys = (await between.bundle()).keys
    assert keys is not None
    assert keys["grandchild"].tainted
    assert set(tree.below.hub.bundle.jwt_authorities) == kept
    tree.clock.advance(11)
    await tree.above.authorities.revoke("jwt", "grandchild")
    await tree.tick(1)
    assert set(tree.below.hub.bundle.jwt_authorities) == kept - {"grandchild"}


async def test_a_jwt_key_of_a_server_two_below_that_is_not_above_yet_is_kept(tree: Tree) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    async with tree.below.database.write() as tx:
        published = jwt_authority("grandchild", key, tree.clock.now() + timedelta(days=1))
        await bundles.publish(tx, TD, DOWNSTREAM, published, tree.clock.now())
    await tree.below.hub.written()
    await tree.tick()
    assert "grandchild" in tree.below.hub.bundle.jwt_authorities
