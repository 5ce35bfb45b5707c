"""A real Envoy and meshtls judge the same tokens alike, and ask an authorization service alike."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from meshtls.address import Address
from meshtls.ext_authz.client import ExtAuthz
from meshtls.ext_authz.settings import ExtAuthzProvider, ProviderKind
from meshtls.policy.istio.model import JwtRule
from meshtls.policy.jwt.authenticate import NeedsKeys, TokenAuthenticator
from meshtls.policy.jwt.key_set import read_key_set
from meshtls.policy.request import Request
from meshtls.spiffeid import SpiffeId
from meshtls.wire.http import HttpRequest, Refuse
from tests.support.envoy import Envoy, started_envoy
from tests.support.envoy_http import EXTENSIONS, grpc_cluster, http_bootstrap, response_of
from tests.support.ext_authz_server import authorization_server, message
from tests.support.jwts import Issuer, segment, signing_key

OWN = SpiffeId.parse("spiffe://example.org/shop")
# Their tokens are made when a test runs: on a slow machine that is long after this.
ISSUER = Issuer("https://issuer.test", datetime.min, signing_key("RSA"), "one", "RS256")
OTHER = Issuer("https://other.test", datetime.min, signing_key("P-256"), "two")
RULES = (JwtRule(issuer=ISSUER.name, audiences=("shop",)), JwtRule(issuer=OTHER.name))
KEYS = (read_key_set(ISSUER.jwks()), read_key_set(OTHER.jwks()))


def bearer(token: str) -> HttpRequest:
    return HttpRequest("GET", "127.0.0.1", "/", (("authorization", f"Bearer {token}"),))


def lines(*values: str) -> HttpRequest:
    return HttpRequest("GET", "127.0.0.1", "/", tuple(("authorization", one) for one in values))


def param(token: str) -> HttpRequest:
    return HttpRequest("GET", "127.0.0.1", f"/?access_token={token}")


def requests(now: datetime) -> dict[str, HttpRequest]:
    issuer, other, seconds = replace(ISSUER, now=now), replace(OTHER, now=now), int(now.timestamp())
    return {
        "no token": HttpRequest("GET", "127.0.0.1", "/"),
        "another scheme": HttpRequest("GET", "127.0.0.1", "/", (("authorization", "Basic YTpi"),)),
        "good": bearer(issuer.token()),
        "good, of the other issuer": bearer(other.token()),
        "good, in the query": param(issuer.token()),
        "no JWT": bearer("abc"),
        "no signature": bearer(issuer.token().rpartition(".")[0] + "."),
        "algorithm none": bearer(f"{segment({'alg': 'none'})}.{segment(issuer.claims())}."),
        "expired": bearer(issuer.token(exp=seconds - 3600)),
        "expired within the leeway": bearer(issuer.token(exp=seconds - 5)),
        "not valid yet": bearer(issuer.token(nbf=seconds + 3600)),
        "not valid yet, within the leeway": bearer(issuer.token(nbf=seconds + 30)),
        "without end": bearer(issuer.token(exp=None)),
        **{
            f"null in {name}": bearer(issuer.token_with(name, None))
            for name in ("exp", "nbf", "iat", "sub", "jti", "aud", "iss")
        },
        **{f"negative {name}": bearer(issuer.token_with(name, -1)) for name in ("exp", "nbf", "iat")},
        **{f"{name} that is a text": bearer(issuer.token_with(name, "9")) for name in ("exp", "nbf", "iat")},
        "exp with a fraction": bearer(issuer.token(exp=seconds + 60.5)),
        "an ID that is no text": bearer(issuer.token(jti=7)),
        "a subject that is no text": bearer(issuer.token(sub=7)),
        "null as the key's ID": bearer(
            issuer.signed(issuer.header() | {"kid": None}, json.dumps(issuer.claims()).encode())
        ),
        "a good token and another scheme": lines(f"Bearer {issuer.token()}", "Basic YTpi"),
        "another scheme and a good token": lines("Basic YTpi", f"Bearer {issuer.token()}"),
        "two good tokens": lines(f"Bearer {issuer.token()}", f"Bearer {issuer.token()}"),
        "another scheme twice": lines("Basic YTpi", "Basic YTpj"),
        "a bad token after another scheme": lines("Basic YTpi, Bearer abc"),
        "a good token after another scheme": lines(f"Basic YTpi, Bearer {issuer.token()}"),
        "an empty token": lines("Bearer "),
        "another audience": bearer(issuer.token(aud="bank")),
        "no audience": bearer(issuer.token(aud=None)),
        "an audience as an address": bearer(issuer.token(aud="https://shop/")),
        "one audience of several": bearer(issuer.token(aud=["bank", "shop"])),
        "another issuer": bearer(issuer.token(iss="https://evil.test")),
        "no issuer": bearer(issuer.token(iss=None)),
        "no subject": bearer(issuer.token(sub=None)),
        "an unknown key": bearer(replace(issuer, key_id="nine").token()),
        "no key ID": bearer(replace(issuer, key_id=None).token()),
        "another's key": bearer(replace(issuer, key=signing_key("RSA", 1)).token()),
        "the other issuer's key": bearer(replace(other, name=issuer.name).token()),
        "another algorithm of the key": bearer(replace(issuer, algorithm="PS256").token()),
        "a bad token in the query beside a good one": HttpRequest(
            "GET", "127.0.0.1", "/?access_token=abc", bearer(issuer.token()).headers
        ),
    }


def jwt_authn() -> dict[str, Any]:
    """The filter as Istio writes it for two rules: one of them holds, or none has a token that is bad."""
    providers, each = {}, []
    for name, issuer, rule in (("a", ISSUER, RULES[0]), ("b", OTHER, RULES[1])):
        providers[name] = {
            "issuer": issuer.name,
            "audiences": list(rule.audiences),
            "local_jwks": {"inline_string": issuer.jwks()},
        }
        each.append({"requires_any": {"requirements": [{"provider_name": name}, {"allow_missing": {}}]}})
    any_of = [{"provider_name": "a"}, {"provider_name": "b"}, {"requires_all": {"requirements": each}}]
    return {
        "@type": f"{EXTENSIONS}.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": providers,
        "rules": [{"match": {"prefix": "/"}, "requires": {"requires_any": {"requirements": any_of}}}],
    }


def ext_authz() -> dict[str, Any]:
    return {
        "@type": f"{EXTENSIONS}.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": "authorization"}, "timeout": "20s"},
    }


#: What Envoy lets pass, and we refuse: an app may take for the token what the filter did not.
STRICTER = {"a good token after another scheme", "another scheme and a good token", "an empty token"}


async def ask(envoy: Envoy, listener: str, request: HttpRequest) -> tuple[int, dict[str, str]]:
    port = await envoy.port(listener)
    return await asyncio.to_thread(response_of, port, request.path, list(request.headers))


async def test_envoy_and_meshtls_accept_the_same_tokens(tmp_path: Path) -> None:
    authenticator, found = TokenAuthenticator(RULES, OWN), {}
    async with started_envoy(tmp_path, http_bootstrap({"jwt": jwt_authn()}, [])) as envoy:
        for name, request in requests(datetime.now(UTC)).items():
            answer = authenticator.authenticate(request, KEYS, datetime.now(UTC))
            refusal = answer.refusal if isinstance(answer, NeedsKeys) else answer
            ours = refusal.status if isinstance(refusal, Refuse) else 200
            found[name] = ours, (await ask(envoy, "jwt", request))[0]
    assert {name: pair for name, pair in found.items() if pair[0] != pair[1]} == dict.fromkeys(STRICTER, (401, 200))
    assert {pair[0] for pair in found.values()} == {200, 401, 403}


async def test_envoy_and_meshtls_tell_a_service_the_same_and_take_its_answers_alike(tmp_path: Path) -> None:
    seen: list[Any] = []

    async def decide(asked: Any) -> Any:
        seen.append(asked.attributes)
        if "deny" in asked.attributes.request.http.path:
            header = {"header": {"key": "x-why", "value": "path"}}
            denied = {"status": {"code": 401}, "headers": [header], "body": "no"}
            return message("CheckResponse", status={"code": 16}, denied_response=denied)
        return message("CheckResponse", status={"code": 0}, ok_response={})

    async with authorization_server(decide) as port:
        settings = ExtAuthzProvider(
            name="opa", kind=ProviderKind.GRPC, address=Address("127.0.0.1", port), timeout=30.0
        )
        bootstrap = http_bootstrap({"authz": ext_authz()}, [grpc_cluster("authorization", port)])
        async with started_envoy(tmp_path, bootstrap) as envoy, ExtAuthz([settings]) as ours:
            for path in ("/allow?a=b", "/deny"):
                request = HttpRequest("GET", "127.0.0.1", path, (("x-team", "a"),))
                status, headers = await ask(envoy, "authz", request)
                answer = await ours.check(Request(None, OWN, 80, "127.0.0.1", http=request), "opa")
                assert (200 if answer.allowed else answer.status) == status
                assert dict(answer.headers).get("x-why") == headers.get("x-why")
                theirs, own = seen[-2], seen[-1]
                for told in (theirs, own):
                    http = told.request.http
                    assert (http.method, http.path, http.scheme) == ("GET", path, "http")
                    assert http.headers["x-team"] == "a"
                    assert http.headers[":path"] == path
                    assert told.source.address.socket_address.address == "127.0.0.1"
                    assert told.source.principal == ""
                    assert told.request.HasField("time")
                assert theirs.source.address.socket_address.port_value > 0
