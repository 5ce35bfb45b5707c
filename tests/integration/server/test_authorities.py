"""A server's authorities through their lives: what signs, what is published, and what a restart makes of it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import URL, insert, text
from sqlalchemy.sql import column, table

from meshtls.bundle import BundleSet
from meshtls.ca.authority import Authority
from meshtls.ca.authority_states import AuthorityState, AuthorityStep
from meshtls.ca.keys.disk import DiskKeys
from meshtls.ca.keys.manager import KeyAlgorithm
from meshtls.errors import ConflictError, NotFoundError, RequestError, StoreError, TokenError
from meshtls.observe.audit import AuditRecord
from meshtls.registration import AgentRecord
from meshtls.server.access import Caller, Role
from meshtls.server.core import Core
from meshtls.server.jwt_key import store_jwt_key
from meshtls.server.operations import svids
from meshtls.server.settings import KeyPlace, ServerConfig
from meshtls.server.startup import opened_core
from meshtls.server.store import agents, audit, authorities, bundles
from meshtls.server.store.authorities import AuthorityRecord
from meshtls.server.store.database import Database
from meshtls.server.store.migrate import migrate
from meshtls.server.upkeep import clean_up, keep_clean
from meshtls.spiffeid import SpiffeId
from meshtls.svid.jwt import parse_and_validate
from meshtls.svid.verify import verify_peer
from meshtls.svid.x509 import issuer_key_id_of, key_id_of
from meshtls.workload.background import in_background
from tests.support.clock import ManualClock
from tests.support.server import TD, config_for, full_disk, new_csr

ADMIN = Caller(Role.ADMIN, "uid 0")
WEB = SpiffeId(TD, "/web")
NODE = SpiffeId(TD, "/meshtls/agent/join_token/n1")
PREPARED, ACTIVE, OLD, TAINTED, REVOKED, EXPIRED = AuthorityState
DAY = 86400.0
KINDS = ["x509", "jwt"]


@asynccontextmanager
async def core_of(config: ServerConfig, clock: ManualClock) -> AsyncIterator[Core]:
    async with opened_core(config, clock) as (core, _):
        yield core


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def config(tmp_path: Path, store_url: URL) -> ServerConfig:
    return config_for(tmp_path, store_url)


async def records(core: Core, kind: str) -> list[AuthorityRecord]:
    async with core.database.read() as tx:
        return [one for one in await authorities.list_authorities(tx) if one.kind == kind]


async def states(core: Core, kind: str) -> list[AuthorityState]:
    return [one.state for one in await records(core, kind)]


def trusted(core: Core, kind: str) -> list[str]:
    """The ids of what the bundle has."""
    bundle = core.hub.bundle
    return list(bundle.jwt_authorities) if kind == "jwt" else list(map(key_id_of, bundle.x509_authorities))


async def signer(core: Core, kind: str, ttl: int = 600) -> str:
    """The id of the authority that signs now, by an SVID that the bundle verifies."""
    now, trust = core.clock.now(), BundleSet([core.hub.bundle])
    if kind == "jwt":
        token = (await svids.mint_jwt(core, ADMIN, WEB, ["db"], ttl)).svid.token
        parse_and_validate(token, trust, "db", now)
        return core.signing.jwt_key.kid
    chain = (await svids.mint_x509(core, ADMIN, WEB, new_csr(), ttl)).chain
    verify_peer([one.public_bytes(Encoding.DER) for one in chain], trust, now)
    return issuer_key_id_of(chain[-1])


async def add_agent(core: Core, name: SpiffeId = NODE, *, seen: int = 0) -> None:
    now = core.clock.now()
    record = AgentRecord(
        spiffe_id=name, type="t", serials=("a",), not_after=now + timedelta(days=900), attested_at=now, bundle_seen=seen
    )
    async with core.database.write() as tx:
        await agents.put_agent(tx, record)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_prepared_authority_is_in_the_bundle_and_signs_only_once_it_is_active(
    config: ServerConfig, clock: ManualClock, kind: str
) -> None:
    async with core_of(config, clock) as core:
        first = await signer(core, kind)
        assert await states(core, kind) == [ACTIVE]
        prepared = await core.authorities.prepare(kind)
        assert trusted(core, kind) == [first, prepared.id]
        assert await signer(core, kind) == first
        await core.authorities.activate(kind)
        assert await signer(core, kind) == prepared.id
        assert (trusted(core, kind), await states(core, kind)) == ([first, prepared.id], [OLD, ACTIVE])


@pytest.mark.parametrize("kind", KINDS)
async def test_the_old_one_leaves_the_bundle_after_its_last_svid_and_its_key_is_deleted(
    config: ServerConfig, clock: ManualClock, kind: str
) -> None:
    async with core_of(config, clock) as core:
        first = await signer(core, kind, ttl=3600)
        second = (await core.authorities.prepare(kind)).id
        await core.authorities.activate(kind)
        clock.advance(3599)
        await clean_up(core.hub, core.database, clock, core.trail, 1000)
        assert trusted(core, kind) == [first, second]
        clock.advance(1)
        await clean_up(core.hub, core.database, clock, core.trail, 1000)
        assert (trusted(core, kind), await states(core, kind)) == ([second], [EXPIRED, ACTIVE])
        files = len(list(config.keys_dir.rglob("*.pem")))
        await core.authorities.tick()
        assert len(list(config.keys_dir.rglob("*.pem"))) == files - (2 if kind == "x509" else 1)
        assert await signer(core, kind) == second
    async with core_of(config, clock) as core:
        assert (await signer(core, kind), trusted(core, kind)) == (second, [second])


@pytest.mark.parametrize("kind", KINDS)
async def test_each_state_survives_a_restart(config: ServerConfig, clock: ManualClock, kind: str) -> None:
    async with core_of(config, clock) as core:
        await core.authorities.prepare(kind)
    async with core_of(config, clock) as core:
        assert await states(core, kind) == [ACTIVE, PREPARED]
        second = (await core.authorities.activate(kind)).id
    async with core_of(config, clock) as core:
        assert (await states(core, kind), await signer(core, kind)) == ([OLD, ACTIVE], second)
        await core.authorities.taint(kind)
    async with core_of(config, clock) as core:
        assert await states(core, kind) == [TAINTED, ACTIVE]
        await core.authorities.revoke(kind, force=True)
    async with core_of(config, clock) as core:
        assert (await states(core, kind), await signer(core, kind)) == ([REVOKED, ACTIVE], second)
        assert trusted(core, kind) == [second]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_that_was_stored_before_a_crash_is_published_at_the_next_start(
    config: ServerConfig, clock: ManualClock, kind: str
) -> None:
    async with core_of(config, clock) as core:
        first = await signer(core, kind)
        stored = core.authorities.keys.new(kind)
    async with core_of(config, clock) as core:
        assert (await states(core, kind), trusted(core, kind)) == ([ACTIVE, PREPARED], [first, stored])
        assert await signer(core, kind) == first


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_that_the_store_did_not_take_is_published_by_the_next_try(
    tmp_path: Path, clock: ManualClock, kind: str
) -> None:
    async with core_of(config_for(tmp_path), clock) as core:
        kept = core.authorities.keys.of(kind)
        async with full_disk(core, "authorities"):
            for _ in range(3):
                with pytest.raises(StoreError, match="the disk is full"):
                    await core.authorities.prepare(kind)
        [made] = set(core.authorities.keys.of(kind)) - set(kept)
        assert (await core.authorities.prepare(kind)).id == made
        await core.authorities.activate(kind)
        assert await signer(core, kind) == made
        assert (await core.authorities.prepare(kind)).id not in (*kept, made)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [AuthorityStep.REVOKE, AuthorityStep.EXPIRE])
async def test_a_key_whose_authority_left_the_bundle_before_a_crash_is_deleted_at_the_next_start(
    config: ServerConfig, clock: ManualClock, kind: str, step: AuthorityStep
) -> None:
    async with core_of(config, clock) as core:
        await core.authorities.prepare(kind)
        await core.authorities.activate(kind)
        old = (await records(core, kind))[0]
        async with core.change() as tx:
            await authorities.move(tx, TD, old, step, clock.now())
        assert old.id in core.authorities.keys.of(kind)
    async with core_of(config, clock) as core:
        assert old.id not in core.authorities.keys.of(kind)
        assert trusted(core, kind) == [await signer(core, kind)]


async def test_keys_in_memory_are_replaced_at_a_restart_and_the_lost_ones_stay_for_their_svids(
    config: ServerConfig, clock: ManualClock
) -> None:
    config = replace(config, key_place=KeyPlace.MEMORY)
    async with core_of(config, clock) as core:
        lost = await signer(core, "x509", ttl=3600)
        await core.authorities.prepare("x509")
    async with core_of(config, clock) as core:
        assert await states(core, "x509") == [OLD, REVOKED, ACTIVE]
        new = await signer(core, "x509")
        assert trusted(core, "x509") == [lost, new]
        clock.advance(3600)
        await clean_up(core.hub, core.database, clock, core.trail, 1000)
        assert trusted(core, "x509") == [new]


async def test_a_server_with_a_new_id_keeps_the_authorities_that_it_has_the_keys_of(
    config: ServerConfig, clock: ManualClock
) -> None:
    async with core_of(config, clock) as core:
        first = await signer(core, "x509")
    (config.data_dir / "server-id").unlink()
    async with core_of(config, clock) as core:
        assert (await signer(core, "x509"), await states(core, "x509")) == (first, [ACTIVE])


async def test_a_new_store_takes_all_keys_and_signs_with_the_newest(
    config: ServerConfig, clock: ManualClock, tmp_path: Path
) -> None:
    async with core_of(config, clock) as core:
        first = await signer(core, "x509")
        clock.advance(60)
        second = (await core.authorities.prepare("x509")).id
    elsewhere = replace(config, datastore=config_for(tmp_path / "new").datastore)
    (tmp_path / "new" / "server").mkdir(parents=True)
    (config.data_dir / "transparency-log.checkpoint").unlink()  # as `meshtls log abandon` does
    async with core_of(elsewhere, clock) as core:
        assert await signer(core, "x509") == second
        assert set(trusted(core, "x509")) == {first, second}


async def test_a_store_and_keys_of_the_version_before_go_on_as_they_are(
    config: ServerConfig, clock: ManualClock
) -> None:
    name = str(uuid.uuid4())
    old = Authority.create(TD, clock, keys=DiskKeys(config.keys_dir))
    key = store_jwt_key(config.keys_dir, KeyAlgorithm.P256.generate(), first=True)
    old.close()
    config.data_dir.chmod(0o700)
    (config.data_dir / "server-id").write_text(name)
    (config.data_dir / "server-id").chmod(0o600)
    ends = old.root.not_valid_after_utc
    public = key.private_key.public_key()
    database = Database(config.datastore)
    await migrate(database, "0002")
    async with database.write() as tx:
        for number, one in enumerate((bundles.x509_authority(old.root), bundles.jwt_authority(key.kid, public, ends))):
            row = {"kind": one.kind, "name": one.name, "server_id": name, "der": one.der, "revision": number + 1}
            row["expires_at"] = int(ends.timestamp())
            await tx.execute(insert(table("authorities", *map(column, row))), [row])
        await tx.execute(text("UPDATE counters SET value = 2"))
    await database.close()
    async with core_of(config, clock) as core:
        assert core.hub.bundle.x509_authorities == (old.root,)
        assert core.hub.bundle.sequence == 2
        assert (await signer(core, "x509"), await signer(core, "jwt")) == (old.id, key.kid)
        assert [await states(core, kind) for kind in KINDS] == [[ACTIVE], [ACTIVE]]
        clock.advance(100 * DAY)
        await core.authorities.tick()
        assert [await states(core, kind) for kind in KINDS] == [[ACTIVE], [ACTIVE]]


async def test_preparing_a_second_one_is_refused(config: ServerConfig, clock: ManualClock) -> None:
    async with core_of(config, clock) as core:
        prepared = await core.authorities.prepare("x509")
        with pytest.raises(ConflictError) as refused:
            await core.authorities.prepare("x509")
        assert str(refused.value) == (
            f"{prepared} is prepared already; activate it, or revoke it to prepare another one"
        )
        await core.authorities.revoke("x509", prepared.id)
        assert await states(core, "x509") == [ACTIVE, REVOKED]
        await core.authorities.prepare("x509")


async def test_activating_waits_for_every_agent_unless_forced(config: ServerConfig, clock: ManualClock) -> None:
    async with core_of(config, clock) as core:
        await add_agent(core)
        prepared = await core.authorities.prepare("x509")
        with pytest.raises(RequestError) as refused:
            await core.authorities.activate("x509")
        assert str(refused.value) == (
            f"can't activate {prepared}: agent {NODE} has not confirmed the bundle with it yet, and would refuse what"
            " it signs; wait, evict them, or give --force"
        )
        async with core.database.write() as tx:
            await agents.note_bundle_seen(tx, NODE, prepared.revision)
        await core.authorities.activate("x509")
        await core.authorities.prepare("x509")
        await core.authorities.activate("x509", force=True)
        assert await states(core, "x509") == [OLD, OLD, ACTIVE]


async def test_an_old_authority_among_several_is_named_by_the_beginning_of_its_id(
    config: ServerConfig, clock: ManualClock
) -> None:
    async with core_of(config, clock) as core:
        olds = []
        for _ in range(2):
            olds.append(await signer(core, "x509"))
            await core.authorities.prepare("x509")
            await core.authorities.activate("x509", force=True)
        with pytest.raises(NotFoundError) as refused:
            await core.authorities.taint("x509")
        assert str(refused.value) == (
            f"wanted one X.509 authority to taint, found 2: {olds[0]}, {olds[1]}; name one of them by its ID, or how"
            " that begins"
        )
        tainted = await core.authorities.taint("x509", olds[0][:16])
        assert tainted.id == olds[0]


async def test_revoking_is_refused_while_svids_in_use_hang_on_it_unless_forced(
    config: ServerConfig, clock: ManualClock
) -> None:
    async with core_of(config, clock) as core:
        old = await signer(core, "x509")
        await core.authorities.prepare("x509")
        await core.authorities.activate("x509")
        ends = clock.now() + timedelta(seconds=600)
        with pytest.raises(RequestError) as refused:
            await core.authorities.revoke("x509")
        assert str(refused.value) == (
            f"can't revoke X.509 authority {old}: 2 SVIDs in use hang on it, of no agent (minted, or the server's own);"
            " taint it and wait until they are replaced, or until"
            f" {max(ends, clock.now() + timedelta(hours=1)):%Y-%m-%dT%H:%M:%SZ}, or give --force"
        )
        await core.authorities.revoke("x509", force=True)
        assert await states(core, "x509") == [REVOKED, ACTIVE]


async def test_a_tainted_one_may_be_revoked_once_workloads_have_settled(
    config: ServerConfig, clock: ManualClock
) -> None:
    async with core_of(config, clock) as core:
        await core.authorities.prepare("jwt")
        await core.authorities.activate("jwt")
        tainted = await core.authorities.taint("jwt")
        clock.advance(4)
        with pytest.raises(RequestError) as refused:
            await core.authorities.revoke("jwt")
        assert str(refused.value) == (
            f"can't revoke {tainted}: workloads are still replacing its SVIDs; wait 6 s, or give --force"
        )
        clock.advance(6)
        await core.authorities.revoke("jwt")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda core, first: core.authorities.activate("x509"),
            "wanted one X.509 authority to activate, found none; prepare one first",
        ),
        (
            lambda core, first: core.authorities.taint("x509"),
            "wanted one X.509 authority to taint, found none that is old; replace the one that signs first: prepare"
            " another one and activate it",
        ),
        (
            lambda core, first: core.authorities.revoke("x509"),
            "wanted one X.509 authority to revoke, found none that is old or tainted; to replace the one that signs,"
            " prepare another one and activate it; a prepared one is revoked by its ID",
        ),
        (
            lambda core, first: core.authorities.revoke("x509", first),
            "X.509 authority {first}: can't revoke it while it is ACTIVE: it is the one that signs;"
            " prepare and activate another one first",
        ),
        (
            lambda core, first: core.authorities.taint("x509", first[:8]),
            "X.509 authority {first}: can't taint it while it is ACTIVE: it is the one that signs;"
            " prepare and activate another one first",
        ),
        (
            lambda core, first: core.authorities.activate("x509", "no"),
            "X.509 authority no: no authority has this id; see `meshtls authority show`",
        ),
    ],
)
async def test_a_step_that_can_not_be_taken_says_why(
    tmp_path: Path, clock: ManualClock, act: Callable[..., object], message: str
) -> None:
    async with core_of(config_for(tmp_path), clock) as core:
        first = await signer(core, "x509")
        with pytest.raises((RequestError, NotFoundError)) as refused:
            await act(core, first)  # type: ignore[misc]
        assert str(refused.value) == message.format(first=first)


def short(config: ServerConfig) -> ServerConfig:
    """With authorities that live for twelve hours: the next is prepared after six, and signs after ten."""
    life = timedelta(hours=12)
    return replace(config, root_ttl=life, jwt_key_ttl=life)


HOUR = 3600.0


@pytest.mark.parametrize("kind", KINDS)
async def test_authorities_are_replaced_by_the_clock(config: ServerConfig, clock: ManualClock, kind: str) -> None:
    async with core_of(short(config), clock) as core:

        async def at(hours: float) -> list[AuthorityState]:
            clock.advance(hours * HOUR - clock.monotonic())
            while not await core.authorities.tick():
                continue
            await clean_up(core.hub, core.database, clock, core.trail, 1000)
            await signer(core, kind)
            return await states(core, kind)

        assert await at(5.99) == [ACTIVE]
        assert await at(6) == [ACTIVE, PREPARED]
        assert await at(9.99) == [ACTIVE, PREPARED]
        assert await at(10) == [OLD, ACTIVE]
        assert await at(12) == [EXPIRED, ACTIVE, PREPARED]
        assert await at(16) == [OLD, ACTIVE]


@pytest.mark.parametrize(("absent", "other"), [("x509", "jwt"), ("jwt", "x509")])
async def test_a_key_that_can_not_be_made_keeps_no_other_authority_from_being_replaced(
    config: ServerConfig, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, absent: str, other: str
) -> None:
    async with core_of(short(config), clock) as core:
        new = core.authorities.keys.new

        def refused(kind: str) -> str:
            if kind == absent:
                raise TokenError("the token is away")
            return new(kind)

        monkeypatch.setattr(core.authorities.keys, "new", refused)
        for hours, wanted in ((6, [ACTIVE, PREPARED]), (10, [OLD, ACTIVE])):
            clock.advance(hours * HOUR - clock.monotonic())
            with pytest.raises(TokenError, match="the token is away"):
                await core.authorities.tick()
            assert (await states(core, absent), await states(core, other)) == ([ACTIVE], wanted)
        monkeypatch.undo()
        while not await core.authorities.tick():
            continue
        assert await states(core, absent) == [OLD, ACTIVE]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_activation_by_the_clock_waits_for_agents_for_half_of_the_time_left(
    config: ServerConfig, clock: ManualClock, kind: str
) -> None:
    async with core_of(short(config), clock) as core:
        await add_agent(core)
        clock.advance(6 * HOUR)
        await core.authorities.tick()
        clock.advance(4 * HOUR)
        await core.authorities.tick()
        assert await states(core, kind) == [ACTIVE, PREPARED]
        clock.advance(HOUR)
        await core.authorities.tick()
        assert await states(core, kind) == [OLD, ACTIVE]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_authority_that_was_prepared_late_gives_agents_time_to_confirm_it(
    config: ServerConfig, clock: ManualClock, kind: str
) -> None:
    async with core_of(short(config), clock) as core:
        await add_agent(core)
        clock.advance(11.5 * HOUR)  # the machine was suspended, or its clock was set
        assert not await core.authorities.tick()
        await core.authorities.tick()
        assert await states(core, kind) == [ACTIVE, PREPARED]
        clock.advance(10)
        while not await core.authorities.tick():
            continue
        assert await states(core, kind) == [OLD, ACTIVE]


async def acts_of(core: Core, about: str = "authority") -> list[str]:
    """What the audit trail says of authorities, each act with its subject and the state afterwards."""
    async with core.database.read() as tx:
        found = [AuditRecord.parse(line.record) for line in await audit.list_audit(tx, 0, 1000)]
    acts = [one for one in found if about in one.act and one.act != "publish authority"]
    return [f"{one.act}: {one.subject}: {(one.after or {}).get('state', '')}" for one in acts]


async def test_an_authority_that_expires_by_the_clock_is_in_the_audit_trail(
    config: ServerConfig, clock: ManualClock
) -> None:
    async with core_of(config, clock) as core:
        first = (await records(core, "x509"))[0]
        await core.authorities.prepare("x509", caller=ADMIN)
        await core.authorities.activate("x509", caller=ADMIN)
        clock.advance(3 * HOUR)
        await clean_up(core.hub, core.database, clock, core.trail, 1000)
        assert (await acts_of(core))[-1] == f"expire authority: {first}: EXPIRED"


async def test_the_audit_trail_has_the_steps_that_a_restart_takes_with_authorities(
    config: ServerConfig, clock: ManualClock
) -> None:
    async with core_of(config, clock) as core:
        kept = [(await records(core, kind))[0] for kind in KINDS]
    async with core_of(config, clock) as core, core.change() as tx:  # as if another server had been the first
        for one in kept:
            await authorities.claim(tx, one, "another")
    async with core_of(config, clock) as core:
        assert await acts_of(core) == [f"claim authority: {one}: ACTIVE" for one in kept]
        prepared = await core.authorities.prepare("jwt", caller=ADMIN)
        core.authorities.keys.drop("jwt", kept[1].id)
    async with core_of(config, clock) as core:
        assert (await acts_of(core))[2:] == [
            f"prepare authority: {prepared}: PREPARED",
            f"give up authority: {kept[1]}: OLD",
            f"activate authority: {prepared}: ACTIVE",
            f"expire authority: {kept[1]}: EXPIRED",  # no token of it was in use
        ]
    clock.advance(500 * DAY)
    async with core_of(config, clock) as core:
        assert f"expire authority: {kept[0]}: EXPIRED" in await acts_of(core)


async def test_a_new_intermediate_is_in_the_audit_trail_with_the_first_svid_below_it(
    config: ServerConfig, clock: ManualClock
) -> None:
    async with core_of(config, clock) as core:
        assert await acts_of(core, "new CA") == [f"sign with new CA: {TD.id}: "]
        clock.advance(core.config.ca_ttl.total_seconds() / 2 + 60)
        for _ in range(2):
            await signer(core, "x509")
        assert await acts_of(core, "new CA") == [f"sign with new CA: {TD.id}: "] * 2


async def test_a_clock_that_is_set_past_the_end_of_all_authorities_and_right_again_loses_none(
    config: ServerConfig, clock: ManualClock
) -> None:
    async with core_of(config, clock) as core:
        signed_by = [await signer(core, kind) for kind in KINDS]
        clock.set_back(-400 * DAY)
        await kept_clean(core)
        await core.authorities.tick()
        clock.set_back(400 * DAY)
        await core.authorities.tick()
        assert [await signer(core, kind) for kind in KINDS] == signed_by
        assert [trusted(core, kind) for kind in KINDS] == [[one] for one in signed_by]


async def test_a_clock_that_stays_past_the_end_of_all_authorities_has_others_sign_after_an_hour(
    config: ServerConfig, clock: ManualClock
) -> None:
    async with core_of(config, clock) as core:
        signed_by = [await signer(core, kind) for kind in KINDS]
        clock.set_back(-400 * DAY)
        await core.authorities.tick()
        clock.advance(3601)
        await kept_clean(core)
        while not await core.authorities.tick():
            continue
        assert set(signed_by).isdisjoint([await signer(core, kind) for kind in KINDS])
        assert [trusted(core, kind) for kind in KINDS] == [[await signer(core, kind)] for kind in KINDS]


async def kept_clean(core: Core) -> None:
    """Have the clean-up of a running server run once."""
    assert isinstance(core.clock, ManualClock)
    work = keep_clean(core.hub, core.database, core.clock, core.trail, 1000, core.authorities.jumps)
    async with in_background(work, "clean up"):
        await core.clock.until_sleepers()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_was_stopped_past_its_authoritys_end_signs_with_a_new_one(
    config: ServerConfig, clock: ManualClock, kind: str
) -> None:
    async with core_of(short(config), clock) as core:
        first = await signer(core, kind)
    clock.advance(100 * HOUR)
    async with core_of(short(config), clock) as core:
        second = await signer(core, kind)
        assert (second != first, trusted(core, kind)) == (True, [second])
