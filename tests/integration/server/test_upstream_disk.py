"""A server below a CA in files: what it signs, and what it makes of files that are replaced."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import URL

from meshtls.bundle import BundleSet
from meshtls.ca.authority_states import AuthorityState, AuthorityStep
from meshtls.errors import ConfigError, RequestError
from meshtls.observe.audit import AuditRecord
from meshtls.registration import AgentRecord
from meshtls.server.access import Caller, Role
from meshtls.server.core import Core
from meshtls.server.operations import authorities as operations
from meshtls.server.operations import svids
from meshtls.server.settings import DiskUpstream, ServerConfig
from meshtls.server.startup import opened_core
from meshtls.server.store import agents, audit, authorities
from meshtls.server.upkeep import clean_up
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import verify_peer
from meshtls.svid.x509 import format_serial, issuer_key_id_of, key_id_of
from tests.support.clock import ManualClock
from tests.support.openssl_ca import EXTENSIONS, OpensslCa
from tests.support.server import TD, config_for, full_disk, new_csr

ADMIN = Caller(Role.ADMIN, "uid 0")
WEB = SpiffeId(TD, "/web")
NODE = SpiffeId(TD, "/meshtls/agent/join_token/n1")
PREPARED, ACTIVE, OLD, TAINTED, REVOKED, EXPIRED = AuthorityState
DAY = 86400.0


class Site:
    """The files of an upstream authority, ``ca.pem`` and so on, which stand for the present one."""

    def __init__(self, directory: Path, store: URL) -> None:
        self.directory = directory / "ca"
        self.directory.mkdir()
        self.clock = ManualClock()
        files = DiskUpstream(self.directory / "ca.pem", self.directory / "ca.key", self.directory / "bundle.pem")
        self.files = files
        self.config = replace(config_for(directory, store), upstream=files)

    def make(self, name: str, above: OpensslCa | None = None, *, more: str = "") -> OpensslCa:
        made = OpensslCa.make(self.directory, name, above, more=more)
        # Valid by our clock, too, which stands still.
        early = (made.certificate.not_valid_before_utc - self.clock.now()).total_seconds()
        self.clock.advance(max(0.0, early))
        return made

    def install(self, ca: OpensslCa) -> None:
        """Put this CA into the files."""
        assert self.files.bundle_file
        for old, new in ((ca.root.cert, self.files.bundle_file), (ca.key, self.files.key_file)):
            shutil.copy(old, new)
        self.files.cert_file.write_bytes(b"".join(one.cert.read_bytes() for one in (ca, *_between(ca))))


def _between(ca: OpensslCa) -> list[OpensslCa]:
    found = []
    while ca.above and ca.above.above:
        ca = ca.above
        found.append(ca)
    return found


@pytest.fixture
def site(tmp_path: Path, store_url: URL) -> Site:
    return Site(tmp_path, store_url)


@asynccontextmanager
async def running(site: Site, config: ServerConfig | None = None) -> AsyncIterator[Core]:
    async with opened_core(config or site.config, site.clock) as (core, _):
        yield core


async def chain_of(core: Core) -> tuple[x509.Certificate, ...]:
    """A new SVID that our bundle verifies."""
    chain = (await svids.mint_x509(core, ADMIN, WEB, new_csr(), 600)).chain
    verify_peer([one.public_bytes(Encoding.DER) for one in chain], BundleSet([core.hub.bundle]), core.clock.now())
    return chain


async def states(core: Core) -> list[tuple[str, AuthorityState]]:
    async with core.database.read() as tx:
        found = [one for one in await authorities.list_authorities(tx) if one.kind == "x509"]
    return [(one.id, one.state) for one in found]


async def add_agent(core: Core, seen: int) -> None:
    now = core.clock.now()
    ends = now + timedelta(days=900)
    record = AgentRecord(spiffe_id=NODE, type="t", serials=("a",), not_after=ends, attested_at=now, bundle_seen=seen)
    async with core.database.write() as tx:
        await agents.put_agent(tx, record)


def ids(*cas: OpensslCa) -> list[str]:
    return [key_id_of(one.certificate) for one in cas]


async def test_svids_hang_on_the_root_in_the_files_and_the_bundle_has_nothing_else(site: Site) -> None:
    root = site.make("root")
    site.install(root)
    async with running(site) as core:
        chain = await chain_of(core)
        assert [issuer_key_id_of(chain[-1])] == ids(root)
        assert len(chain) == 2
        assert list(map(key_id_of, core.hub.bundle.x509_authorities)) == ids(root)
        assert await states(core) == [(*ids(root), ACTIVE)]


async def test_a_chain_of_cas_leads_from_an_svid_to_the_root_of_the_bundle_file(site: Site) -> None:
    root = site.make("root")
    middle = site.make("middle", root)
    low = site.make("low", middle)
    site.install(low)
    async with running(site) as core:
        chain = await chain_of(core)
        assert [key_id_of(one) for one in chain[2:]] == ids(low, middle)
        assert list(map(key_id_of, core.hub.bundle.x509_authorities)) == ids(root)


@pytest.mark.parametrize("key_id", ["none", "keyid:always"])
async def test_a_ca_whose_root_can_not_be_told_from_it_is_refused(site: Site, key_id: str) -> None:
    root = site.make("root")
    middle = site.make("middle", root, more=f"{EXTENSIONS}authorityKeyIdentifier={key_id}\n")
    site.install(middle)
    if key_id != "none":
        async with running(site) as core:
            assert issuer_key_id_of((await chain_of(core))[-1]) == core.signing.authority.id
        return
    with pytest.raises(ConfigError) as refused:
        async with running(site):
            pass
    assert str(refused.value) == (
        f"a taint of its root would replace no SVID: wanted the authority key identifier {ids(root)[0]} in certificate"
        f" {format_serial(middle.certificate)} (CN=middle,O=Acme), got none; issue that one again"
        " (RFC 5280, section 4.2.1.1)"
    )


async def test_the_same_ca_signs_after_a_restart_even_without_its_files(site: Site) -> None:
    root = site.make("root")
    site.install(root)
    async with running(site) as core:
        ours = (await chain_of(core))[1]
    site.files.key_file.unlink()
    async with running(site) as core:
        assert (await chain_of(core))[1] == ours


async def test_a_ca_is_signed_again_at_half_of_its_life(site: Site) -> None:
    site.install(site.make("root"))
    async with running(site) as core:
        first = (await chain_of(core))[1]
        site.clock.advance(DAY / 2 - 60)
        await core.authorities.tick()
        assert (await chain_of(core))[1] == first
        site.clock.advance(120)
        await core.authorities.tick()
        second = (await chain_of(core))[1]
        assert second != first
        assert len(core.signing.authority.crl_signers) == 2
        site.clock.advance(DAY / 2 + 60)
        await core.authorities.tick()
        files = list(site.config.keys_dir.glob("upstream-*.pem"))
        assert len(files) == 2, "that of the first CA, which has ended, is deleted"


async def test_a_ca_that_has_ended_is_deleted_while_one_below_the_next_root_waits_for_agents(site: Site) -> None:
    first, second = site.make("first"), site.make("second")
    site.install(first)
    async with running(site) as core:
        await add_agent(core, 0)
        site.clock.advance(DAY / 2 + 60)
        await core.authorities.tick()
        signs = (await chain_of(core))[1]
        site.install(second)
        await core.authorities.tick()
        assert len(list(site.config.keys_dir.glob("upstream-*.pem"))) == 3
        site.clock.advance(DAY / 2 + 60)
        await core.authorities.tick()
        assert (await chain_of(core))[1] == signs
        assert len(list(site.config.keys_dir.glob("upstream-*.pem"))) == 3, "one has ended, another is half as old"


async def test_a_ca_is_not_signed_again_by_a_clock_that_was_set_forward_a_moment_ago(site: Site) -> None:
    site.install(site.make("root"))
    async with running(site) as core:
        first = (await chain_of(core))[1]
        site.clock.set_back(-2 * DAY)
        await core.authorities.tick()
        site.clock.set_back(2 * DAY)
        await core.authorities.tick()
        assert (await chain_of(core))[1] == first
        site.clock.set_back(-DAY / 2 - 60)
        await core.authorities.tick()
        assert core.signing.authority.downstream_issuer == first
        site.clock.advance(3601)
        await core.authorities.tick()
        assert (await chain_of(core))[1] != first


async def test_no_cas_pile_up_while_the_store_refuses_to_have_them(tmp_path: Path) -> None:
    site = Site(tmp_path, config_for(tmp_path).datastore)
    site.install(site.make("root"))
    async with running(site) as core:
        first = (await chain_of(core))[1]
        site.clock.advance(DAY / 2 + 60)
        async with full_disk(core, "audit"):
            for _ in range(3):
                await core.authorities.tick()
                site.clock.advance(6)
        assert len(list(site.config.keys_dir.glob("upstream-*.pem"))) == 1
        await core.authorities.tick()
        assert (await chain_of(core))[1] != first
        assert len(list(site.config.keys_dir.glob("upstream-*.pem"))) == 2


async def test_a_replaced_root_is_in_the_bundle_first_and_signs_once_agents_have_confirmed_it(site: Site) -> None:
    first, second = site.make("first"), site.make("second")
    site.install(first)
    async with running(site) as core:
        await add_agent(core, 0)
        site.install(second)
        await core.authorities.tick()
        assert list(map(key_id_of, core.hub.bundle.x509_authorities)) == ids(first, second)
        assert [issuer_key_id_of((await chain_of(core))[-1])] == ids(first)
        assert [state for _, state in await states(core)] == [ACTIVE, PREPARED]
        with pytest.raises(RequestError, match="agent [^ ]+ has not confirmed the bundle with it yet"):
            await core.authorities.activate("x509")
        await add_agent(core, core.hub.bundle.sequence or 0)
        await core.authorities.tick()
        assert [issuer_key_id_of((await chain_of(core))[-1])] == ids(second)
        assert [state for _, state in await states(core)] == [OLD, ACTIVE]
        site.clock.advance(3 * DAY)
        await clean_up(core.hub, core.database, site.clock, core.trail, 1000)
        assert [state for _, state in await states(core)] == [EXPIRED, ACTIVE]


async def test_a_server_follows_at_once_when_its_root_is_tainted_and_another_server_of_its_store_has_a_new_one(
    site: Site, tmp_path: Path
) -> None:
    first, second = site.make("first"), site.make("second")
    site.install(first)
    beside = replace(site.config, data_dir=tmp_path / "beside", keys_dir=tmp_path / "beside" / "keys")
    async with running(site) as core, running(site, beside) as follower:
        await add_agent(core, 0)
        site.install(second)
        await core.authorities.tick()
        await core.authorities.activate("x509", force=True)
        await follower.authorities.tick()
        # The agent has not confirmed the new one.
        assert [issuer_key_id_of((await chain_of(follower))[-1])] == ids(first)
        await core.authorities.taint("x509", *ids(first))
        await follower.authorities.tick()
        assert [issuer_key_id_of((await chain_of(follower))[-1])] == ids(second)


async def test_a_server_follows_at_once_when_its_root_was_taken_out_of_the_bundle_of_its_store(site: Site) -> None:
    first, second = site.make("first"), site.make("second")
    site.install(first)
    async with running(site) as core:
        await add_agent(core, 0)
        site.install(second)
        await core.authorities.tick()
        assert [issuer_key_id_of((await chain_of(core))[-1])] == ids(first)
        async with core.database.write() as tx:
            [old] = [one for one in await authorities.list_authorities(tx) if one.id == ids(first)[0]]
            for step in (AuthorityStep.RETIRE, AuthorityStep.TAINT, AuthorityStep.REVOKE):
                old = await authorities.move(tx, TD, old, step, site.clock.now())
        await core.authorities.tick()
        assert [issuer_key_id_of((await chain_of(core))[-1])] == ids(second)


async def test_a_root_whose_files_are_put_back_signs_again(site: Site) -> None:
    first, second = site.make("first"), site.make("second")
    async with _rotated(site, first, second) as core:
        site.install(first)
        await core.authorities.tick()
        assert [issuer_key_id_of((await chain_of(core))[-1])] == ids(first)
        assert dict(await states(core)) == dict(zip(ids(first, second), [ACTIVE, OLD], strict=True))


@asynccontextmanager
async def _rotated(site: Site, first: OpensslCa, second: OpensslCa) -> AsyncIterator[Core]:
    """A server whose upstream authority was replaced."""
    site.install(first)
    async with running(site) as core:
        await chain_of(core)
        site.install(second)
        await core.authorities.tick()
        assert [issuer_key_id_of((await chain_of(core))[-1])] == ids(second)
        yield core


async def test_an_old_upstream_root_is_tainted_and_revoked_by_its_id_the_active_one_and_our_own_ca_are_not(
    site: Site,
) -> None:
    first, second = site.make("first"), site.make("second")
    async with _rotated(site, first, second) as core:
        [old, active] = ids(first, second)
        own = key_id_of((await chain_of(core))[1])
        with pytest.raises(RequestError, match="can't taint it while it is ACTIVE: it is the one that signs"):
            await core.authorities.taint("x509", active)
        with pytest.raises(RequestError, match=f"{own} is the CA of this server, below the upstream authority"):
            await core.authorities.taint("x509", own)
        with pytest.raises(RequestError, match=f"{own} is the CA of this server, below the upstream authority"):
            await core.authorities.revoke("x509", own)
        await core.authorities.taint("x509", old)
        assert core.hub.tainted == (old,)
        await core.authorities.revoke("x509", old, force=True)
        assert list(map(key_id_of, core.hub.bundle.x509_authorities)) == [active]
        site.install(first)
        await core.authorities.tick()
        assert [issuer_key_id_of((await chain_of(core))[-1])] == [active], "a revoked root signs nothing for us"


async def test_prepare_has_our_ca_signed_again_and_show_tells_that_the_authority_is_upstream(site: Site) -> None:
    site.install(site.make("root"))
    async with running(site) as core:
        first = (await chain_of(core))[1]
        status = await operations.prepare_authority(core, ADMIN, "x509")
        assert (await chain_of(core))[1] != first
        assert (status.state, status.server_id) == ("ACTIVE", "upstream")
        with pytest.raises(RequestError, match="has signed no CA of ours below it; prepare one first"):
            await core.authorities.activate("x509")


async def test_files_that_can_not_be_used_are_told_of_and_the_present_ca_signs_on(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = site.make("first"), site.make("second")
    site.install(first)
    async with running(site) as core:
        shutil.copy(second.cert, site.files.cert_file)
        await core.authorities.tick()
        assert "wanted the key of the first certificate" in caplog.text
        assert [issuer_key_id_of((await chain_of(core))[-1])] == ids(first)
        site.install(second)
        await core.authorities.tick()
        assert [issuer_key_id_of((await chain_of(core))[-1])] == ids(second)


async def test_a_server_with_a_root_of_its_own_goes_below_an_upstream_authority_and_back(site: Site) -> None:
    root = site.make("root")
    site.install(root)
    alone = replace(site.config, upstream=None)
    async with running(site, alone) as core:
        [(own, _)] = await states(core)
        await chain_of(core)
        await add_agent(core, core.hub.bundle.sequence or 0)
    async with running(site) as core:
        assert [issuer_key_id_of((await chain_of(core))[-1])] == [own], "agents do not know the other root yet"
        await add_agent(core, core.hub.bundle.sequence or 0)
        await core.authorities.tick()
        assert [issuer_key_id_of((await chain_of(core))[-1])] == ids(root)
        assert dict(await states(core)) == {own: OLD, ids(root)[0]: ACTIVE}
    async with running(site, alone) as core:
        await chain_of(core)
        assert dict(await states(core))[ids(root)[0]] is OLD
        async with core.database.read() as tx:
            trail = [AuditRecord.parse(line.record) for line in await audit.list_audit(tx, 0, 1000)]
        left = [one.subject for one in trail if one.act == "leave upstream authority"]
        assert left == [f"X.509 authority {ids(root)[0]}"]


@pytest.mark.parametrize("form", ["pkcs8", "sec1"])
async def test_a_key_in_each_form_is_read(site: Site, form: str) -> None:
    root = site.make("root")
    site.install(root)
    shutil.copy(root.key_as(form), site.files.key_file)
    async with running(site) as core:
        await chain_of(core)


async def test_the_files_name_what_is_wrong_with_them(site: Site) -> None:
    root = site.make("root")
    low = site.make("low", root)
    leaf_only = OpensslCa.make(
        site.directory,
        "short",
        root,
        more="basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n",
    )
    no_ca = OpensslCa.make(site.directory, "no_ca", root, more="basicConstraints=critical,CA:false\n")
    site.install(low)
    files = site.files
    other = site.make("other")
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: files.key_file.chmod(0o644), f"{files.key_file}: mode 0644 gives every user access to a CA key"),
        (files.key_file.unlink, f"{files.key_file}: can't be read: No such file or directory"),
        (lambda: files.key_file.write_text("x"), "wanted an unencrypted key in PEM"),
        (lambda: files.cert_file.write_text("x"), f"{files.cert_file}: wanted CA certificates in PEM"),
        (lambda: site.install(leaf_only), "SVIDs of the CA that it signed would be refused"),
        (lambda: site.install(no_ca), f"{files.cert_file}: "),
        (lambda: shutil.copy(other.cert, files.bundle_file or ""), "SVIDs of the CA that it signed would be refused"),
    ]
    for spoil, message in cases:
        site.install(low)
        files.key_file.chmod(0o600)
        spoil()
        with pytest.raises(ConfigError, match=message):
            async with running(site):
                pass
    site.install(low)
    with pytest.raises(ConfigError, match="its certificate is no root; give bundle_file_path"):
        async with running(site, replace(site.config, upstream=replace(files, bundle_file=None))):
            pass
    async with running(site) as core:
        await chain_of(core)
