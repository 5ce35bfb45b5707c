"""Asks a provider by HTTP (Istio's ``envoyExtAuthzHttp``): 200 allows, 5xx is no decision, any other status denies.

The client of a request that a status of 2xx denies gets 403.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshtls.ext_authz.answer import ExtAuthzAnswer, HeaderChanges, ProviderError, UnaskableError
from meshtls.ext_authz.header_rules import is_value, matches
from meshtls.ext_authz.settings import ExtAuthzProvider
from meshtls.http_client import HttpClient, HttpClientError, HttpResponse
from meshtls.wire.http import HttpRequest
from meshtls.wire.http_rules import is_token, may_be_set

__all__ = ["MAX_BODY", "check_by_http"]

#: Bytes of a denial's body.
MAX_BODY = 1 << 16
_FORBIDDEN = 403
_ALWAYS_ON_DENY = ("location", "www-authenticate")
#: Headers that the app is not to get, with commas.
_TO_REMOVE = "x-envoy-auth-headers-to-remove"


async def check_by_http(provider: ExtAuthzProvider, client: HttpClient, http: HttpRequest) -> ExtAuthzAnswer:
    """Raises ProviderError or UnaskableError."""
    target = provider.path_prefix + http.path
    if http.method == "CONNECT" or not http.path.startswith("/"):
        raise UnaskableError(f"{http.method[:20]!r} {http.path[:60]!r} names no path")
    printable = target.isascii() and target.isprintable() and " " not in target
    if not is_token(http.method) or not printable or not is_value(http.host):
        raise UnaskableError("its first line has spaces, control characters or other scripts")
    try:
        response = await client.request(http.method, target, _asked(provider, http))
    except HttpClientError as error:
        raise ProviderError(str(error)) from error
    if response.status == 200:
        return _allowed(provider, response)
    if response.status >= 500:
        raise ProviderError(f"it answered with status {response.status}")
    patterns = provider.headers_downstream_on_deny
    return ExtAuthzAnswer(
        allowed=False,
        reason=f"provider {provider.name!r} denied it with status {response.status}",
        # A success, such as 204 of a service that answers every OPTIONS, would look like the app's own.
        status=_FORBIDDEN if response.status < 300 else response.status,
        body=response.body.decode("utf-8", "replace"),
        headers=_chosen(response, (*patterns, *_ALWAYS_ON_DENY) if patterns else ("*",)),
    )


def _asked(provider: ExtAuthzProvider, http: HttpRequest) -> Iterator[tuple[str, str]]:
    yield "host", http.host
    yield "content-length", "0"
    ours = {name for name, _ in provider.include_additional_headers}
    for name, value in http.headers:
        passed = name not in ours and (may_be_set(name) or name == "x-forwarded-client-cert")
        if passed and is_value(value) and matches(name, provider.include_request_headers):
            yield name, value
    yield from provider.include_additional_headers


def _allowed(provider: ExtAuthzProvider, response: HttpResponse) -> ExtAuthzAnswer:
    removed = ",".join(value for name, value in response.headers if name == _TO_REMOVE)
    changes = HeaderChanges(
        set=tuple(one for one in _chosen(response, provider.headers_upstream_on_allow) if one[0] != _TO_REMOVE),
        removed=tuple(name.strip().lower() for name in removed.split(",") if name.strip()),
    )
    changes.check()
    return ExtAuthzAnswer(
        allowed=True,
        reason=f"provider {provider.name!r} allowed it",
        headers=_chosen(response, provider.headers_downstream_on_allow),
        upstream=changes,
    )


def _chosen(response: HttpResponse, patterns: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple(one for one in response.headers if may_be_set(one[0]) and matches(one[0], patterns))
