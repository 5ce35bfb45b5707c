"""Which agents can serve an entry, the message about an obstacle, and selectors that no attestor produces."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from meshtls.agent.attest.attestor import ATTESTORS, Attestor, Caller
from meshtls.registration import AgentRecord, Entry, Selector, agent_id, server_id
from meshtls.rpc.peer_credentials import Credentials
from meshtls.server.reach import NODE_SELECTORS, WORKLOAD_SELECTORS, Reach, unproduced
from meshtls.spiffeid import SpiffeId, TrustDomain

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DOMAIN = TrustDomain("example.org")
SERVER = server_id(DOMAIN)
FIRST, SECOND, UNKNOWN = (agent_id(DOMAIN, "x509pop", name) for name in ("first", "second", "unknown"))
POOL = Selector("x509pop", "subject:cn:pool")


def agent(spiffe_id: SpiffeId, *selectors: Selector, banned: bool = False, ends: int = 3600) -> AgentRecord:
    return AgentRecord(
        spiffe_id=spiffe_id,
        type="x509pop",
        serials=("1",),
        not_after=NOW + timedelta(seconds=ends),
        attested_at=NOW,
        banned=banned,
        selectors=selectors,
    )


def entry(path: str, parent: SpiffeId | str, selector: str = "unix:uid:1000") -> Entry:
    above = parent if isinstance(parent, SpiffeId) else SpiffeId(DOMAIN, parent)
    return Entry(id=path, spiffe_id=SpiffeId(DOMAIN, path), parent_id=above, selectors=(Selector.parse(selector),))


ALIAS = entry("/pool", SERVER, str(POOL))


@pytest.mark.parametrize(
    ("entries", "agents", "serving"),
    [
        pytest.param([entry("/web", FIRST)], [agent(FIRST), agent(SECOND)], (FIRST,), id="below the agent itself"),
        pytest.param(
            [entry("/web", "/pool"), ALIAS],
            [agent(FIRST, POOL), agent(SECOND, POOL), agent(UNKNOWN)],
            (FIRST, SECOND),
            id="below an alias",
        ),
        pytest.param([entry("/web", "/db"), entry("/db", FIRST)], [agent(FIRST)], (FIRST,), id="below another entry"),
    ],
)
def test_the_agents_that_reach_an_entry_are_named(
    entries: Sequence[Entry], agents: Sequence[AgentRecord], serving: tuple[SpiffeId, ...]
) -> None:
    reach = Reach(DOMAIN, entries, agents, NOW)

    assert reach.agents_of("/web") == serving
    assert reach.obstacle(entries[0]) is None


@pytest.mark.parametrize(
    ("entries", "agents", "obstacle"),
    [
        ([entry("/web", UNKNOWN)], [agent(FIRST)], f"no agent has attested as {UNKNOWN}"),
        ([entry("/web", FIRST)], [agent(FIRST, banned=True)], f"agent {FIRST} is banned"),
        (
            [entry("/web", FIRST)],
            [agent(FIRST, ends=0)],
            f"the SVID of agent {FIRST} expired at 2030-01-01T00:00:00Z",
        ),
        (
            [entry("/web", "/nowhere")],
            [agent(FIRST)],
            "no agent and no entry has the ID of its parent spiffe://example.org/nowhere",
        ),
        ([entry("/web", "/pool"), ALIAS], [agent(FIRST)], f"no attested agent has {POOL}"),
        ([entry("/web", "/db"), entry("/db", UNKNOWN)], [agent(FIRST)], f"no agent has attested as {UNKNOWN}"),
        (
            [entry("/web", "/db"), entry("/db", "/web")],
            [agent(FIRST)],
            "its parents lead back to spiffe://example.org/db",
        ),
    ],
)
def test_the_obstacle_is_named_for_an_entry_that_no_agent_reaches(
    entries: Sequence[Entry], agents: Sequence[AgentRecord], obstacle: str
) -> None:
    reach = Reach(DOMAIN, entries, agents, NOW)

    assert reach.agents_of("/web") == ()
    assert reach.obstacle(entries[0]) == obstacle


WORKLOAD = (
    "known: unix:uid, unix:user, unix:gid, unix:group, unix:supplementary_gid, unix:supplementary_group, unix:path,"
    " unix:sha256, docker:container_id, k8s:pod-uid, k8s:container_id"
)


@pytest.mark.parametrize(
    ("wanted", "messages"),
    [
        (entry("/web", FIRST, "unix:uid:1"), []),
        (entry("/web", FIRST, "k8s:pod-uid:x"), []),
        (entry("/web", FIRST, f"spiffe_id:{FIRST}"), []),
        (ALIAS, []),
        (
            entry("/web", FIRST, "k8s:ns:default"),
            [f"no workload attestor produces the selector k8s:ns:default; {WORKLOAD}"],
        ),
        (entry("/web", FIRST, "aws:id:1"), [f"no workload attestor produces the selector aws:id:1; {WORKLOAD}"]),
        (
            entry("/web", SERVER, "unix:uid:1"),
            ["no node attestor produces the selector unix:uid:1; known: x509pop:subject:cn, x509pop:ca:fingerprint"],
        ),
    ],
)
def test_a_selector_that_no_attestor_produces_is_named(wanted: Entry, messages: list[str]) -> None:
    assert list(unproduced(wanted, DOMAIN)) == messages


DECIMAL, DIGEST = "a decimal number", "64 digits of lower-case hexadecimal"


@pytest.mark.parametrize(
    ("produced", "never", "wanted"),
    [
        ("unix:uid:0", "unix:uid:abc", DECIMAL),
        ("unix:uid:1000", "unix:uid:01000", DECIMAL),
        ("unix:gid:4294967295", "unix:gid:-1", DECIMAL),
        ("unix:supplementary_gid:7", "unix:supplementary_gid:", DECIMAL),
        (f"unix:sha256:{'a' * 64}", f"unix:sha256:{'A' * 64}", DIGEST),
        ("unix:path:/bin/web", "unix:path:bin/web", "an absolute path"),
        (f"docker:container_id:{'0' * 64}", f"docker:container_id:{'0' * 12}", DIGEST),
        (f"k8s:container_id:{'0' * 64}", f"k8s:container_id:{'0' * 65}", DIGEST),
    ],
)
def test_an_unknown_selector_value_is_named_beside_a_known_one(produced: str, never: str, wanted: str) -> None:
    assert list(unproduced(entry("/web", FIRST, produced), DOMAIN)) == []
    begin = ":".join(never.split(":")[:2])
    assert list(unproduced(entry("/web", FIRST, never), DOMAIN)) == [
        f"no attestor produces the selector {never}: wanted {wanted} behind '{begin}:'"
    ]


async def test_the_known_selectors_are_those_that_the_attestor_produces() -> None:
    caller = Caller(Credentials(os.getpid(), os.getuid(), os.getgid()))
    try:
        found = await Attestor().attest(caller)
    finally:
        caller.close()

    assert set(WORKLOAD_SELECTORS) == set(ATTESTORS)
    assert set(NODE_SELECTORS) == {"x509pop"}
    assert {"uid", "path"} <= {one.value.partition(":")[0] for one in found if one.type == "unix"}
    parent = replace(entry("/web", FIRST), selectors=tuple(found))
    assert list(unproduced(parent, DOMAIN)) == []
