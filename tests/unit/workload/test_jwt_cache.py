"""Which cached token is used, and until when."""

from __future__ import annotations

from datetime import timedelta

from meshtls.spiffeid import SpiffeId
from meshtls.svid.jwt import JwtSvid, sign
from meshtls.workload.jwt_cache import JwtCache
from meshtls.workload.jwt_source import Wanted
from tests.support.certs import NOW, key

WEB = SpiffeId.parse("spiffe://example.org/web")
DB: Wanted = (frozenset(["db"]), None)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def token(*audience: str, life: float = 10) -> JwtSvid:
    return sign(WEB, audience, key=key(), key_id="k1", now=NOW, ttl=minutes(life))


def cache_with(svid: JwtSvid) -> JwtCache[Wanted]:
    cache: JwtCache[Wanted] = JwtCache(lambda: 0)
    cache.put(DB, svid, NOW)
    return cache


def test_a_token_is_fresh_until_half_of_its_life() -> None:
    svid = token("db")
    cache = cache_with(svid)
    assert cache.fresh(DB, NOW + minutes(4.99)) == svid
    assert cache.fresh(DB, NOW + minutes(5)) is None


def test_another_audience_or_identity_is_another_token() -> None:
    cache = cache_with(token("db"))
    assert cache.fresh((frozenset(["db", "x"]), None), NOW) is None
    assert cache.fresh((frozenset(["db"]), WEB), NOW) is None


def test_a_token_serves_until_it_expires_after_failures_with_growing_backoff() -> None:
    svid = token("db")
    cache, now = cache_with(svid), NOW + minutes(5)
    assert cache.after_failure(DB, now) == svid
    assert cache.fresh(DB, now + timedelta(seconds=0.9)) == svid
    assert cache.fresh(DB, now + timedelta(seconds=1)) is None
    assert cache.after_failure(DB, now) == svid
    assert cache.fresh(DB, now + timedelta(seconds=1.9)) == svid
    assert cache.after_failure(DB, NOW + minutes(10)) is None


def test_a_token_that_is_being_retried_is_not_fresh_beyond_its_end() -> None:
    cache = cache_with(token("db"))
    for _ in range(6):
        cache.after_failure(DB, NOW + minutes(9.9))
    assert cache.fresh(DB, NOW + minutes(9.99)) is not None
    assert cache.fresh(DB, NOW + minutes(10)) is None


def test_a_failure_without_a_token_leaves_nothing() -> None:
    cache: JwtCache[Wanted] = JwtCache(lambda: 0)
    assert cache.after_failure(DB, NOW) is None


def test_expired_tokens_are_forgotten() -> None:
    cache = cache_with(token("db"))
    cache.put((frozenset(["x"]), None), token("x", life=60), NOW + minutes(9))
    assert len(cache) == 2
    cache.put((frozenset(["y"]), None), token("y", life=60), NOW + minutes(10))
    assert len(cache) == 2
