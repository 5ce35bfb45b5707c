"""An unusable part of one trust domain's bundle does not keep another domain's withdrawn keys in use."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.ca.authority import Authority
from meshtls.errors import NoBundleError, UntrustedPeerError
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.context import X509Context
from meshtls.svid.jwt import JwtSvid, sign
from meshtls.workload.jwt_source import JwtSource
from meshtls.workload.x509_source import X509Source
from tests.support.authority import context_for, make_authority
from tests.support.certs import key
from tests.support.clock import ManualClock
from tests.support.workload_api import WorkloadApi

PARTNER, THIRD = TrustDomain("partner.test"), TrustDomain("third.test")
THEIRS = "spiffe://partner.test"
KEY, OTHER = key("partner-jwt"), key("partner-jwt-next")


def entries(**keys: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(TrustBundle(PARTNER, (), keys).to_jwks())["keys"]
    return found


def weak() -> dict[str, Any]:
    number = rsa.generate_private_key(65537, 1024).public_key().public_numbers().n  # noqa: S505  # weak is the point
    strong = entries(weak=key("jwt", "RSA").public_key())[0]
    return strong | {"n": strong["n"][: len(f"{number:x}") * 4 // 6]}


def document(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def token(signer: Any, key_id: str, domain: TrustDomain, clock: ManualClock, life: Any) -> JwtSvid:
    return sign(SpiffeId(domain, "/web"), ["db"], key=signer, key_id=key_id, now=clock.now(), ttl=life)


@pytest.mark.parametrize(
    "spoil",
    [
        weak,
        lambda: entries(k=KEY.public_key())[0] | {"crv": "P-999"},
        lambda: entries(k=KEY.public_key())[0] | {"x": "AAAA"},
        lambda: entries(k=KEY.public_key())[0] | {"kid": None},
    ],
    ids=["RSA-1024", "an unknown curve", "a point off the curve", "no kid"],
)
async def test_a_jwk_that_cannot_be_used_keeps_no_withdrawn_key_in_use(
    api: WorkloadApi, clock: ManualClock, spoil: Callable[[], dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "meshtls.workload")
    bad, good, third = spoil(), entries(old=KEY.public_key()), entries(other=OTHER.public_key())
    api.documents = {THEIRS: document(bad, *good), "spiffe://third.test": document(*third)}
    of_partner, of_third = (
        token(signer, name, domain, clock, api.jwt_ttl)
        for signer, name, domain in ((KEY, "old", PARTNER), (OTHER, "other", THIRD))
    )
    async with JwtSource(api.address, clock=clock, jitter=lambda: 0) as source:
        assert source.validate(of_partner.token, "db") == of_partner
        assert source.validate(of_third.token, "db") == of_third
        for keys in (entries(new=OTHER.public_key()), entries(newer=OTHER.public_key())):
            api.documents[THEIRS] = document(bad, *keys)
            del api.documents["spiffe://third.test"]
            api.push(api.context)
            await source.bundles_changed()
            with pytest.raises(UntrustedPeerError):
                source.validate(of_partner.token, "db")
            with pytest.raises(NoBundleError):
                source.validate(of_third.token, "db")
            api.documents["spiffe://third.test"] = b""
        warnings = [one for one in caplog.messages if "left out a JWT authority" in one]
        assert len(warnings) == 1, "once for the state, not for each update"
        api.documents = {THEIRS: document(*entries(newest=OTHER.public_key()))}
        api.push(api.context)
        await source.bundles_changed()
        assert [one for one in caplog.messages if "left out" in one][1:] == [f"no longer: {warnings[0]}"]


@pytest.mark.parametrize("broken", [b"", b"{}", b"\xff", b"[" * 10_000])
async def test_a_document_that_cannot_be_read_ends_the_trust_in_its_own_domain_at_once(
    api: WorkloadApi, clock: ManualClock, broken: bytes
) -> None:
    api.documents = {THEIRS: document(*entries(old=KEY.public_key()))}
    api.documents["spiffe://third.test"] = document(*entries(other=OTHER.public_key()))
    theirs = token(KEY, "old", PARTNER, clock, api.jwt_ttl)
    others = token(OTHER, "other", THIRD, clock, api.jwt_ttl)
    async with JwtSource(api.address, clock=clock, jitter=lambda: 0) as source:
        assert source.validate(theirs.token, "db") == theirs
        api.documents[THEIRS] = broken
        api.push(api.context)
        await source.bundles_changed()
        with pytest.raises(NoBundleError, match="no peer of partner.test is trusted"):
            source.validate(theirs.token, "db")
        assert source.validate(others.token, "db") == others
        own = api.mint(api.context.svid.spiffe_id, "db")
        assert source.validate(own.token, "db") == own


async def test_an_authority_that_cannot_be_used_keeps_no_withdrawn_root_in_use(
    api: WorkloadApi, authority: Authority, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    partner, third = make_authority("partner.test").bundle, make_authority("third.test").bundle
    api.ders = {THEIRS: b"\x30\x00" + partner.to_der(), "spiffe://third.test": third.to_der()}
    async with X509Source(api.address, clock=clock, jitter=lambda: 0) as source:
        bundles = source.snapshot().bundles
        assert bundles[PARTNER].x509_authorities == partner.x509_authorities
        assert bundles[THIRD].x509_authorities == third.x509_authorities
        api.ders = {THEIRS: b"\x30\x00" + third.to_der()}
        api.push(api.context)
        bundles = (await source.changed(1)).bundles
        assert bundles[PARTNER].x509_authorities == third.x509_authorities
        assert bundles.get(THIRD) is None
        assert len([one for one in caplog.messages if "left out an X.509 authority" in one]) == 1
        api.ders = {THEIRS: b"junk"}
        api.push(context_for(authority, "/web"))
        context = await source.changed(2)
        assert context.bundles == BundleSet(
            [TrustBundle(authority.trust_domain, authority.bundle.x509_authorities), TrustBundle(PARTNER)]
        )
        assert context.svid == api.context.svid


async def test_our_own_bundle_without_roots_is_followed_too(api: WorkloadApi, clock: ManualClock) -> None:
    own = api.context.bundles[api.context.svid.spiffe_id.trust_domain]
    async with X509Source(api.address, clock=clock, jitter=lambda: 0) as source:
        assert source.snapshot().bundles[own.trust_domain].x509_authorities
        api.push(X509Context(2, api.context.svids, BundleSet([TrustBundle(own.trust_domain)])))
        context = await source.changed(1)
        assert (context.svids, context.bundles) == (api.context.svids, BundleSet([TrustBundle(own.trust_domain)]))
