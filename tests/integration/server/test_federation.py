"""Relations with other trust domains: what a server fetches, keeps and tells of it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import URL

from meshtls.address import Address
from meshtls.errors import ConfigError, ConflictError, NotFoundError, RequestError
from meshtls.registration import server_id
from meshtls.server.config import parse_config
from meshtls.server.settings import BundleEndpoint, ConfiguredRelation, ServerConfig
from meshtls.server.store.address import postgres_url
from meshtls.serverapi.federation import Profile, Relation, RelationStatus
from meshtls.spiffeid import TrustDomain
from tests.support.authority import make_authority
from tests.support.bundle_partner import Partner, answer, partner
from tests.support.clock import ManualClock
from tests.support.postgres import Postgres
from tests.support.server import TD, ServerUnderTest, config_for, started
from tests.support.waiting import SECONDS, until

B = TrustDomain("b.test")


@pytest.fixture
async def b() -> AsyncIterator[Partner]:
    async with partner(str(B)) as opened:
        yield opened


async def status(server: ServerUnderTest) -> RelationStatus:
    [one] = await server.admin.relations()
    return one


async def fetched(server: ServerUnderTest) -> RelationStatus:
    """The status once the endpoint has given a bundle."""
    async with asyncio.timeout(SECONDS):
        while (one := await status(server)).fetched_at is None:  # noqa: ASYNC110  # there is no event
            await asyncio.sleep(0.01)
    return one


async def acts(server: ServerUnderTest) -> list[tuple[str, str]]:
    """Those of the audit trail that concern the partner."""
    records = [json.loads(line.record) async for line in server.admin.audit()]
    return [(one["act"], one["role"]) for one in records if one["subject"] == str(B)]


async def test_created_relation_is_fetched_shown_updated_and_deleted_with_its_bundle(
    server: ServerUnderTest, b: Partner
) -> None:
    made = await server.admin.create_relation(b.relation(), b.bundle)
    assert (made.relation, made.configured) == (b.relation(), False)
    shown = await fetched(server)
    assert (shown.relation, shown.failure) == (b.relation(), "")
    assert shown.bundle is not None
    assert shown.bundle.x509_authorities == b.bundle.x509_authorities
    assert [one.trust_domain for one in await server.admin.bundles()] == [B]

    moved = b.relation(url=b.url + "moved")
    b.answers["/moved"] = answer(b.document(spiffe_sequence=9))
    await server.admin.update_relation(moved)
    assert (await server.admin.refresh_relation(B)).failure == ""
    shown = await status(server)
    assert shown.relation == moved
    assert shown.bundle is not None
    assert shown.bundle.sequence == 9

    await server.admin.delete_relation(B)
    assert await server.admin.relations() == []
    assert await server.admin.bundles() == []
    assert await acts(server) == [
        ("create federation", "an administrator"),
        ("update federation", "an administrator"),
        ("fetch bundle", "the server itself"),
        ("delete federation", "an administrator"),
    ]


async def test_audit_trail_has_the_bundle_that_a_relation_replaces(server: ServerUnderTest, b: Partner) -> None:
    first, second, third = (make_authority(str(B)).bundle for _ in range(3))
    unanswered = b.relation(url=b.url + "absent")
    await server.admin.set_bundle(first)
    await server.admin.create_relation(unanswered, second)
    await server.admin.update_relation(unanswered, third)
    records = [json.loads(line.record) async for line in server.admin.audit()]
    put, created, updated = (one for one in records if one["subject"] == str(B))
    assert created["before"] == {"bundle": put["after"]}
    assert updated["before"] == created["after"]
    assert put["after"] != created["after"]["bundle"] != updated["after"]["bundle"]


async def test_relation_survives_a_restart_and_its_bundle_may_outlive_it(
    tmp_path: Path, store_url: URL, b: Partner
) -> None:
    async with started(config_for(tmp_path, store_url)) as server:
        await server.admin.create_relation(b.relation(), b.bundle)
        await fetched(server)
    async with started(config_for(tmp_path, store_url)) as server:
        assert (await fetched(server)).relation == b.relation()
        await server.admin.delete_relation(B, keep_bundle=True)
        assert await server.admin.relations() == []
        assert [one.trust_domain for one in await server.admin.bundles()] == [B]


async def test_relation_is_followed_by_every_server_of_the_store(
    tmp_path: Path, postgres: Postgres, b: Partner
) -> None:
    url = postgres_url(postgres.new_database())
    first, second = (tmp_path / name for name in ("first", "second"))
    for directory in (first, second):
        directory.mkdir()
    async with started(config_for(first, url)) as one, started(config_for(second, url)) as other:
        await one.admin.create_relation(b.relation(), b.bundle)
        assert (await fetched(one)).failure == ""
        async with asyncio.timeout(SECONDS):
            while not await other.admin.relations():  # noqa: ASYNC110  # the other polls the store
                await asyncio.sleep(0.05)
        assert (await fetched(other)).failure == ""
        await other.admin.delete_relation(B)
        async with asyncio.timeout(SECONDS):
            while await one.admin.relations():  # noqa: ASYNC110  # here, too
                await asyncio.sleep(0.05)
        assert await one.admin.bundles() == []


async def test_a_relation_that_can_not_be_is_refused(server: ServerUnderTest, b: Partner) -> None:
    own = b.relation(trust_domain=TD)
    with pytest.raises(RequestError, match="wanted another trust domain than this server's own"):
        await server.admin.create_relation(own)
    with pytest.raises(NotFoundError, match="federation with b.test: there is none"):
        await server.admin.delete_relation(B)
    with pytest.raises(NotFoundError, match="federation with b.test: there is none; create it"):
        await server.admin.update_relation(b.relation())
    with pytest.raises(NotFoundError, match="federation with b.test: there is none"):
        await server.admin.refresh_relation(B)
    with pytest.raises(RequestError, match="wanted its own bundle, got that of c.test"):
        await server.admin.create_relation(b.relation(), make_authority("c.test").bundle)
    with pytest.raises(RequestError, match="wanted at least one usable key, got none"):
        await server.admin.create_relation(b.relation(), replace(b.bundle, x509_authorities=(), jwt_authorities={}))
    ours = replace(await server.admin.bundle(), trust_domain=B)
    both = replace(b.bundle, x509_authorities=(*b.bundle.x509_authorities, *ours.x509_authorities))
    for bundle in (ours, both):
        for act in (server.admin.create_relation(b.relation(), bundle), server.admin.set_bundle(bundle)):
            with pytest.raises(RequestError) as refused:
                await act
            assert str(refused.value) == (
                "bundle of trust domain b.test: wanted its own authorities, got one of example.org, this server's trust"
                " domain; ask the other trust domain for its bundle"
            )
    assert await server.admin.relations() == []
    assert await server.admin.bundles() == []
    await server.admin.create_relation(b.relation(), b.bundle)
    with pytest.raises(RequestError, match="wanted its own authorities, got one of example.org"):
        await server.admin.update_relation(b.relation(), ours)
    with pytest.raises(ConflictError, match="it exists already; update it, or delete it first"):
        await server.admin.create_relation(b.relation())


@pytest.mark.parametrize("way", ["update", "bundle set"])
async def test_endpoint_is_asked_at_once_when_the_bundle_to_authenticate_it_with_is_there(
    server: ServerUnderTest, b: Partner, way: str
) -> None:
    await server.admin.create_relation(b.relation())
    async with asyncio.timeout(SECONDS):
        while not (failed := await status(server)).failure:  # noqa: ASYNC110  # there is no event
            await asyncio.sleep(0.01)
    assert failed.failure == (
        f"{b.url}: there is no bundle of trust domain b.test to authenticate spiffe://b.test/spire/server with; set it"
        " with `meshtls bundle set`"
    )
    if way == "update":
        assert (await server.admin.update_relation(b.relation(), b.bundle)).failure == ""
    else:
        await server.admin.set_bundle(b.bundle)
    shown = await fetched(server)
    assert (shown.failure, len(b.requests)) == ("", 1)


class TestBundleInUse:
    async def test_lower_sequence_keeps_it_until_an_administrator_sets_another(
        self, server: ServerUnderTest, b: Partner
    ) -> None:
        b.answers["/"] = answer(b.document(spiffe_sequence=7))
        await server.admin.create_relation(b.relation(), b.bundle)
        await fetched(server)
        b.answers["/"] = answer(b.document(spiffe_sequence=6))
        shown = await server.admin.refresh_relation(B)
        assert "its sequence 6 is lower than 7" in shown.failure
        assert shown.bundle is not None
        assert shown.bundle.sequence == 7
        await server.admin.set_bundle(replace(b.bundle, sequence=1))
        shown = await server.admin.refresh_relation(B)
        assert shown.failure == ""
        assert shown.bundle is not None
        assert shown.bundle.sequence == 6

    async def test_failure_keeps_it_and_is_told_of_once(
        self, server: ServerUnderTest, b: Partner, caplog: pytest.LogCaptureFixture
    ) -> None:
        await server.admin.create_relation(b.relation(), b.bundle)
        await fetched(server)
        b.answers["/"] = answer(b"", "503 Service Unavailable")
        with caplog.at_level(logging.WARNING, "meshtls.server"):
            for _ in range(3):
                assert "wanted status 200, got 503" in (await server.admin.refresh_relation(B)).failure
        told = [one.getMessage() for one in caplog.records if "b.test can't be fetched" in one.getMessage()]
        assert len(told) == 1
        assert "; the bundle of 20" in told[0]
        assert [one.x509_authorities for one in await server.admin.bundles()] == [b.bundle.x509_authorities]
        b.answers["/"] = answer(b.document())
        assert (await server.admin.refresh_relation(B)).failure == ""

    async def test_administrators_bundle_is_replaced_at_the_next_refresh(
        self, server: ServerUnderTest, b: Partner
    ) -> None:
        b.answers["/"] = answer(b.document(), "200 OK", 'ETag: "1"')
        await server.admin.create_relation(b.relation(), b.bundle)
        await fetched(server)
        await server.admin.refresh_relation(B)
        assert 'If-None-Match: "1"' in b.requests[-1]
        # With b's root beside it, so that the endpoint is still authenticated.
        both = (*b.bundle.x509_authorities, *make_authority("b.test").bundle.x509_authorities)
        await server.admin.set_bundle(replace(b.bundle, x509_authorities=both))
        [present] = await server.admin.bundles()
        assert len(present.x509_authorities) == 2
        await server.admin.refresh_relation(B)
        assert "If-None-Match" not in b.requests[-1]
        [present] = await server.admin.bundles()
        assert present.x509_authorities == b.bundle.x509_authorities

    async def test_empty_one_is_taken_and_trusts_nobody(self, server: ServerUnderTest, b: Partner) -> None:
        await server.admin.create_relation(b.relation(), b.bundle)
        await fetched(server)
        b.answers["/"] = answer(b'{"keys": []}')
        assert (await server.admin.refresh_relation(B)).failure == ""
        [present] = await server.admin.bundles()
        assert present.x509_authorities == ()
        assert "the bundle has no X.509 authority" in (await server.admin.refresh_relation(B)).failure

    async def test_answer_that_comes_after_the_deletion_is_not_stored(
        self, server: ServerUnderTest, b: Partner
    ) -> None:
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await go_on.wait()
            writer.write(answer(b.document(spiffe_sequence=3)))

        await server.admin.create_relation(b.relation(), b.bundle)
        await fetched(server)
        b.answers["/"] = late
        refreshing = asyncio.create_task(server.admin.refresh_relation(B))
        await asked.wait()
        await server.admin.delete_relation(B)
        go_on.set()
        await refreshing
        assert await server.admin.bundles() == []


async def test_endpoint_is_asked_again_when_its_bundle_says(tmp_path: Path, b: Partner) -> None:
    clock = ManualClock()
    b.answers["/"] = answer(b.document(spiffe_refresh_hint=60))
    async with started(config_for(tmp_path), clock) as server:
        await server.admin.create_relation(b.relation(), b.bundle)
        shown = await fetched(server)
        async with asyncio.timeout(SECONDS):
            while (shown := await status(server)).next_at is None:  # noqa: ASYNC110  # there is no event
                await asyncio.sleep(0.01)
        assert 54 <= (shown.next_at - clock.now()).total_seconds() <= 66
        count = len(b.requests)
        clock.advance(53)
        await asyncio.sleep(0.1)
        assert len(b.requests) == count
        clock.advance(14)
        await until(lambda: len(b.requests) > count)


class TestConfiguredRelations:
    @asynccontextmanager
    async def configured(self, directory: Path, b: Partner, bundle: Path | None) -> AsyncIterator[ServerUnderTest]:
        relation = ConfiguredRelation(b.relation(), bundle)
        async with started(config_for(directory, federates_with=(relation,))) as server:
            yield server

    async def test_they_are_fetched_and_override_those_of_the_store(self, tmp_path: Path, b: Partner) -> None:
        async with started(config_for(tmp_path)) as server:
            await server.admin.create_relation(b.relation(url="https://127.0.0.1:1/"))
        (tmp_path / "b.json").write_text(b.bundle.to_jwks())
        async with self.configured(tmp_path, b, tmp_path / "b.json") as server:
            shown = await fetched(server)
            assert (shown.relation, shown.configured) == (b.relation(), True)
            for act in (
                server.admin.create_relation(b.relation()),
                server.admin.update_relation(b.relation()),
                server.admin.delete_relation(B),
            ):
                with pytest.raises(RequestError, match="it is in the server's file; change it there, and restart"):
                    await act
        async with started(config_for(tmp_path)) as server:
            assert (await status(server)).relation.url == "https://127.0.0.1:1/"

    async def test_bundle_to_begin_with_does_not_replace_one_in_use(self, tmp_path: Path, b: Partner) -> None:
        async with started(config_for(tmp_path)) as server:
            await server.admin.set_bundle(b.bundle)
        (tmp_path / "b.json").write_text(make_authority("b.test").bundle.to_jwks())
        async with self.configured(tmp_path, b, tmp_path / "b.json") as server:
            assert (await fetched(server)).failure == ""

    async def test_bundle_that_can_not_be_read_is_an_error_of_the_configuration(
        self, tmp_path: Path, b: Partner
    ) -> None:
        (tmp_path / "b.json").write_text("[]")
        for name, message in (("b.json", "wanted a JSON object"), ("c.json", "No such file")):
            wanted = f"{name}: wanted the bundle of trust domain b.test as a SPIFFE document: .*{message}"
            with pytest.raises(ConfigError, match=wanted):
                async with self.configured(tmp_path, b, tmp_path / name):
                    pass

    async def test_bundle_with_an_authority_of_the_server_is_an_error_of_the_configuration(
        self, tmp_path: Path, b: Partner
    ) -> None:
        async with started(config_for(tmp_path)) as server:
            (tmp_path / "b.json").write_text((await server.admin.bundle()).to_jwks())
        with pytest.raises(ConfigError) as refused:
            async with self.configured(tmp_path, b, tmp_path / "b.json"):
                pass
        assert str(refused.value) == (
            f"{tmp_path / 'b.json'}: wanted the bundle of trust domain b.test, got an authority of example.org, this"
            " server's trust domain"
        )


async def test_two_servers_serve_and_fetch_each_others_bundles(tmp_path: Path) -> None:
    def config(name: str) -> ServerConfig:
        text = f"trust_domain: {name}\nbind_port: 0\ndata_dir: {tmp_path / name}\n"
        return replace(parse_config("f", text), bundle_endpoint=BundleEndpoint(Address("127.0.0.1", 0), 60))

    async with started(config("a.test")) as a, started(config("b.test")) as b:
        for one, other in ((a, b), (b, a)):
            theirs = await other.admin.bundle()
            url = f"https://127.0.0.1:{other.running.bundle_port}/"
            relation = Relation(
                trust_domain=theirs.trust_domain,
                url=url,
                profile=Profile.HTTPS_SPIFFE,
                endpoint_id=server_id(theirs.trust_domain),
            )
            await one.admin.create_relation(relation, theirs)
            await fetched(one)
        # b replaces its root: a follows, and still authenticates the endpoint when the first root is gone.
        await b.admin.prepare_authority("x509")
        assert (await a.admin.refresh_relation(B)).failure == ""
        old = (await b.admin.bundle()).x509_authorities[0]
        await b.admin.activate_authority("x509")
        first = [one for one in await b.admin.authorities() if one.kind == "x509" and one.state == "OLD"]
        await b.admin.taint_authority("x509", first[0].id)
        await b.admin.revoke_authority("x509", first[0].id, force=True)
        async with asyncio.timeout(SECONDS):
            while (await a.admin.refresh_relation(B)).failure:  # noqa: ASYNC110  # until b presents its next SVID
                await asyncio.sleep(0.1)
        [theirs] = await a.admin.bundles()
        assert theirs.x509_authorities == (await b.admin.bundle()).x509_authorities
        assert old not in theirs.x509_authorities
