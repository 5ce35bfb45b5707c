"""The agent's cache of JWT-SVIDs: what an update of entries or authorities drops from it, and what it keeps."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta

import pytest

from meshtls.agent.tokens import Tokens
from meshtls.agent.upstream import EntryCsr, SigningResult, Update
from meshtls.spiffeid import TrustDomain
from meshtls.svid.jwt import sign
from tests.support.agent import OURS, entry
from tests.support.certs import key
from tests.support.clock import ManualClock

WEB, DB = entry("/web"), entry("/db")


class SigningUpstream:
    """Signs tokens with the key that is named ``key_id``; ``meanwhile`` arrives while it signs."""

    trouble: str | None = None

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.key_id = "old"
        self.signed = 0
        self.tokens: Tokens | None = None
        self.meanwhile: Update | None = None

    @property
    def trust_domain(self) -> TrustDomain:
        return OURS

    async def sign_jwt(self, entry_id: str, audience: Sequence[str]) -> str:
        self.signed += 1
        spiffe_id = {one.id: one.spiffe_id for one in (WEB, DB)}[entry_id]
        made = sign(spiffe_id, audience, key=key(), key_id=self.key_id, now=self.clock.now(), ttl=timedelta(minutes=5))
        if self.meanwhile is not None and self.tokens is not None:
            self.tokens.apply(self.meanwhile)
        return made.token

    async def sign_x509(self, requests: Sequence[EntryCsr]) -> Sequence[SigningResult]:
        raise NotImplementedError

    def watch(self) -> AsyncGenerator[Update]:
        raise NotImplementedError


@pytest.fixture
def upstream() -> SigningUpstream:
    return SigningUpstream(ManualClock())


@pytest.fixture
def tokens(upstream: SigningUpstream) -> Tokens:
    upstream.tokens = Tokens(upstream, upstream.clock, lambda: 0.0)
    return upstream.tokens


@pytest.mark.parametrize(
    ("update", "dropped"),
    [
        (Update(), False),
        (Update(tainted=("another",)), False),
        (Update(removed=(DB.id,)), False),
        (Update(entries=(WEB,), whole=True), False),
        (Update(tainted=("old",)), True),
        (Update(removed=(WEB.id,)), True),
        (Update(entries=(DB,), whole=True), True),
        (Update(refused="it is banned"), True),
    ],
    ids=["nothing", "another is tainted", "another is removed", "all again", "tainted", "removed", "gone", "refused"],
)
async def test_a_token_is_dropped_with_its_entry_and_its_authority(
    tokens: Tokens, upstream: SigningUpstream, update: Update, dropped: bool
) -> None:
    first = await tokens.fetch(WEB, ["mail"])
    assert await tokens.fetch(WEB, ["mail"]) is first
    upstream.key_id = "new"
    tokens.apply(update)
    again = await tokens.fetch(WEB, ["mail"])
    assert (again is not first, upstream.signed) == (dropped, 2 if dropped else 1)


@pytest.mark.parametrize(("update", "kept"), [(None, True), (Update(tainted=("old",)), False)], ids=["none", "taint"])
async def test_a_token_that_was_being_signed_when_its_authority_was_tainted_is_not_kept(
    tokens: Tokens, upstream: SigningUpstream, update: Update | None, kept: bool
) -> None:
    upstream.meanwhile = update
    await tokens.fetch(WEB, ["mail"])
    upstream.meanwhile = None
    await tokens.fetch(WEB, ["mail"])
    assert upstream.signed == (1 if kept else 2)
