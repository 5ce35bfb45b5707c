"""Operations without gRPC: agents are sent an administrator's changes; each operation checks its caller's role."""

from __future__ import annotations

import inspect
import logging
import pkgutil
from collections.abc import AsyncIterator, Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.bundle import BundleSet
from meshtls.errors import AccessError, ConflictError, RequestError
from meshtls.registration import EntryFilter
from meshtls.rpc.shedding import Refusals
from meshtls.server import operations
from meshtls.server.access import Caller, ListenerKind, Role
from meshtls.server.core import Core
from meshtls.server.entries import Node
from meshtls.server.operations.agents import ban_agent, create_join_token
from meshtls.server.operations.attestation import Attestation
from meshtls.server.operations.entries import count_entries, create_entries, delete_entries
from meshtls.server.operations.revocations import list_revocations, readmit, revoke
from meshtls.server.operations.svids import sign_x509
from meshtls.server.operations.sync import sync
from meshtls.server.signing import Signed
from meshtls.server.startup import opened_core
from meshtls.serverapi.values import Subject, SubjectKind
from meshtls.svid.verify import verify_peer
from tests.support.clock import ManualClock
from tests.support.server import config_for, entry, new_csr

ADMIN = Caller(Role.ADMIN, "uid 0")
ANYTHING = EntryFilter()
#: Each operation and the roles that may run it.
ROLES = {
    "agents.ban_agent": {Role.ADMIN},
    "agents.create_join_token": {Role.ADMIN},
    "agents.evict_agent": {Role.ADMIN},
    "agents.get_agent": {Role.ADMIN},
    "agents.list_agents": {Role.ADMIN},
    "agents.renew_agent": {Role.AGENT},
    "audit.list_audit": {Role.ADMIN},
    "authorities.activate_authority": {Role.ADMIN},
    "authorities.confirm_bundle": {Role.AGENT},
    "authorities.list_authorities": {Role.ADMIN},
    "authorities.prepare_authority": {Role.ADMIN},
    "authorities.revoke_authority": {Role.ADMIN},
    "authorities.taint_authority": {Role.ADMIN},
    "bundles.delete_bundle": {Role.ADMIN},
    "bundles.get_bundle": {Role.ADMIN, Role.AGENT, Role.ANONYMOUS, Role.DOWNSTREAM},
    "bundles.list_bundles": {Role.ADMIN},
    "bundles.set_bundle": {Role.ADMIN},
    "downstream.downstream_bundle": {Role.DOWNSTREAM},
    "downstream.new_downstream_ca": {Role.DOWNSTREAM},
    "downstream.publish_jwt_authority": {Role.DOWNSTREAM},
    "entries.count_entries": {Role.ADMIN},
    "entries.create_entries": {Role.ADMIN},
    "entries.delete_entries": {Role.ADMIN},
    "entries.get_entry": {Role.ADMIN},
    "entries.list_entries": {Role.ADMIN},
    "entries.update_entries": {Role.ADMIN},
    "federation.create_relation": {Role.ADMIN},
    "federation.delete_relation": {Role.ADMIN},
    "federation.list_relations": {Role.ADMIN},
    "federation.refresh_relation": {Role.ADMIN},
    "federation.update_relation": {Role.ADMIN},
    "health.get_health": {Role.ADMIN},
    "log.read_log": {Role.ADMIN},
    "revocations.list_revocations": {Role.ADMIN},
    "revocations.readmit": {Role.ADMIN},
    "revocations.revoke": {Role.ADMIN},
    "svids.list_issuances": {Role.ADMIN},
    "svids.mint_jwt": {Role.ADMIN},
    "svids.mint_x509": {Role.ADMIN},
    "svids.sign_jwt": {Role.AGENT},
    "svids.sign_x509": {Role.AGENT},
    "sync.sync": {Role.AGENT},
}


def declared() -> dict[str, Callable[..., Any]]:
    """The operations that are functions: every public one of every module but ``permission``."""
    found: dict[str, Callable[..., Any]] = {}
    for module in pkgutil.iter_modules(operations.__path__):
        if module.name != "permission":
            loaded = import_module(f"{operations.__name__}.{module.name}")
            functions = {name: getattr(loaded, name) for name in loaded.__all__}
            found |= {f"{module.name}.{name}": one for name, one in functions.items() if inspect.isfunction(one)}
    return found


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Core]:
    async with opened_core(config_for(tmp_path), ManualClock()) as (core, _):
        yield core


async def attested(core: Core) -> Caller:
    """An agent that attested by a join token, authenticated by its certificate."""
    token = await create_join_token(core, ADMIN)
    made = await Attestation(core, Refusals()).by_token("127.0.0.1", token.token, new_csr())
    chain = [one.public_bytes(Encoding.DER) for one in made.svid.chain]
    peer = verify_peer(chain, BundleSet([made.bundle]), core.clock.now())
    return await core.authenticator.authenticate(ListenerKind.MUTUAL_TLS, peer)


async def test_an_entry_that_an_operation_creates_reaches_the_agent_that_syncs(core: Core) -> None:
    agent = await attested(core)
    assert agent.agent is not None
    updates = sync(core, agent)
    first = await anext(updates)
    assert (first.whole, first.entries) == (True, ())

    [created] = await create_entries(core, ADMIN, [entry("/web", agent.agent.spiffe_id)])

    told = await anext(updates)
    assert (told.whole, told.entries, told.removed, told.bundles) == (False, (created,), (), None)
    await delete_entries(core, ADMIN, [created.id])
    assert (await anext(updates)).removed == (created.id,)
    await updates.aclose()
    assert core.hub.subscribers == 0


async def test_a_change_that_is_refused_wakes_no_agent_and_keeps_nothing(core: Core) -> None:
    agent = await attested(core)
    assert agent.agent is not None
    me = agent.agent.spiffe_id
    [web] = await create_entries(core, ADMIN, [entry("/web", me)])
    with core.hub.subscription(Node.of(agent.agent)) as subscription:
        with pytest.raises(ConflictError):
            await create_entries(core, ADMIN, [entry("/db", me), entry("/web", me)])
        assert not subscription.is_woken
        assert await count_entries(core, ADMIN, ANYTHING) == 1
        await create_entries(core, ADMIN, [entry("/db", me)])
        assert subscription.is_woken
    assert core.hub.index.get(web.id) == web


async def test_an_agent_gets_svids_of_its_entries_and_a_reason_for_those_of_others(core: Core) -> None:
    mine, other = await attested(core), await attested(core)
    assert mine.agent is not None
    assert other.agent is not None
    [web, theirs] = await create_entries(
        core, ADMIN, [entry("/web", mine.agent.spiffe_id), entry("/theirs", other.agent.spiffe_id)]
    )
    csr = new_csr(ec.generate_private_key(ec.SECP256R1()))
    signed, refused = await sign_x509(core, mine, [(web.id, csr), (theirs.id, csr)])
    assert isinstance(signed, Signed)
    assert (signed.record.spiffe_id, signed.record.entry_id) == (web.spiffe_id, web.id)
    assert str(refused) == f"entry {theirs.id}: agent {mine.name} may serve no entry with this id"


async def test_a_ban_ends_the_sync_of_an_agent(core: Core) -> None:
    agent = await attested(core)
    assert agent.agent is not None
    updates = sync(core, agent)
    await anext(updates)
    await ban_agent(core, ADMIN, agent.agent.spiffe_id)
    with pytest.raises(AccessError, match=f"^agent {agent.name} is banned$"):
        await anext(updates)


async def test_an_administrators_changes_are_logged_and_refused_ones_are_not(
    core: Core, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "meshtls.server")
    agent = await attested(core)
    assert agent.agent is not None
    caplog.clear()
    new = entry("/web", agent.agent.spiffe_id)
    with pytest.raises(RequestError):
        await create_entries(core, ADMIN, [entry("/web", agent.agent.spiffe_id, expires_at=core.clock.now())])
    await create_entries(core, ADMIN, [new])
    assert [record.getMessage() for record in caplog.records] == ["create entries spiffe://example.org/web by uid 0"]
    caplog.clear()
    subject = Subject(SubjectKind.SPIFFE_ID, "spiffe://example.org/web")
    await revoke(core, ADMIN, subject)
    await list_revocations(core, ADMIN)
    await readmit(core, ADMIN, subject)
    assert [record.getMessage() for record in caplog.records] == [
        "revoke spiffe-id spiffe://example.org/web by uid 0",
        "list revocations by uid 0",
        "readmit spiffe-id spiffe://example.org/web by uid 0",
    ]
    caplog.clear()
    made = await create_entries(core, ADMIN, [entry(f"/e{one}", agent.agent.spiffe_id) for one in range(7)])
    await delete_entries(core, ADMIN, [one.id for one in made])
    names = ", ".join(f"spiffe://example.org/e{one}" for one in range(5))
    ids = ", ".join(one.id for one in made[:5])
    assert [record.getMessage() for record in caplog.records] == [
        f"create entries {names} and 2 more by uid 0",
        f"delete entries {ids} and 2 more by uid 0",
    ]


def test_each_operation_has_its_roles() -> None:
    assert declared().keys() == ROLES.keys()


@pytest.mark.parametrize("role", Role)
async def test_an_operation_is_for_its_roles_alone(role: Role, core: Core) -> None:
    caller = Caller(role, "somebody")
    refused = {
        name
        for name, operation in declared().items()
        if await error_of(operation, core, caller)
        == f"permission denied: {name.partition('.')[2].replace('_', ' ')} is not for {role.value} (somebody)"
    }
    assert refused == {name for name, roles in ROLES.items() if role not in roles}


async def error_of(operation: Callable[..., Any], core: Core, caller: Caller) -> str:
    """The error of a call without further arguments: a TypeError once the role is accepted, if it needs some."""
    try:
        answer = operation(core, caller)
        await (anext(answer) if inspect.isasyncgen(answer) else answer)
    except (AccessError, TypeError) as error:
        return str(error)
    return ""
