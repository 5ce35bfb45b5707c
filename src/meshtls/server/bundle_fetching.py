"""Fetches the bundle of another trust domain from its bundle endpoint (SPIFFE Federation, sections 5.2 and 5.3).

Whatever the endpoint does is bounded: the bytes of its answer, the time of the whole fetch, and the redirects, which
lead only to https URLs, each authenticated as the first. Only a complete answer with status 200 counts.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urljoin

from meshtls.bundle import TrustBundle
from meshtls.clock import Clock
from meshtls.errors import BundleError, MeshtlsError
from meshtls.http_client import HttpClient, HttpClientError, HttpResponse
from meshtls.policy.authorizer import Authorizer, Decision, Target
from meshtls.scalars import shown
from meshtls.server.foreign_bundle import has_authority_of
from meshtls.serverapi.federation import Endpoint, Relation
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.bootstrap import AnonymousClientContext
from meshtls.tls.system_roots import system_client_context

__all__ = ["LARGEST_DOCUMENT", "BundleFetchError", "Fetched", "Get", "check_sequence", "fetch_bundle", "get_over_tls"]

#: The network of a fetch: sends a GET with these header fields to the endpoint, which the context authenticates first,
#: and returns the response. Raises HttpClientError. The caller bounds the time.
Get = Callable[[Endpoint, ssl.SSLContext, Sequence[tuple[str, str]]], Awaitable[HttpResponse]]

LARGEST_DOCUMENT = 1 << 20
#: Seconds for the whole fetch, and for each of its requests.
_SECONDS, _REQUEST_SECONDS = 30.0, 10.0
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)


class BundleFetchError(MeshtlsError):
    """The endpoint gave no bundle that can be used."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A bundle, and the ETag that stands for it; empty if there is none."""

    bundle: TrustBundle
    etag: str = ""


async def get_over_tls(endpoint: Endpoint, context: ssl.SSLContext, headers: Sequence[tuple[str, str]]) -> HttpResponse:
    """One request on a connection of its own. Raises HttpClientError."""
    async with HttpClient(endpoint.address, tls=context, largest=LARGEST_DOCUMENT) as client:
        return await client.request("GET", endpoint.target, headers)


async def fetch_bundle(
    relation: Relation,
    own: TrustDomain,
    trusted: Callable[[TrustDomain], TrustBundle | None],
    clock: Clock,
    known: Fetched | None = None,
    get: Get = get_over_tls,
) -> Fetched:
    """The bundle that the endpoint has now; ``known`` if that is still the present one (RFC 9110, section 13.1.2).

    ``trusted`` gives the newest bundle of a trust domain, by which the endpoint is authenticated with https_spiffe.
    ``own`` is the trust domain whose bundle must come from nowhere else. ``get`` is the network. Raises
    BundleFetchError.
    """
    url = relation.url
    context = _context(relation, trusted, clock)
    try:
        async with asyncio.timeout(_SECONDS):
            for _ in range(_MOST_REDIRECTS + 1):
                answer = await _ask(url, context, known, get)
                if answer.status not in _REDIRECTS:
                    return _bundle(relation, own, answer, known)
                url = _redirected(url, answer)
    except TimeoutError as error:
        raise BundleFetchError(f"{url}: no complete answer within {_SECONDS:.0f} s") from error
    raise BundleFetchError(f"{relation.url}: more than {_MOST_REDIRECTS} redirects, the last one to {shown(url)}")


def check_sequence(stored: TrustBundle | None, fetched: TrustBundle) -> None:
    """A bundle without a sequence replaces any, and is replaced by any. Raises BundleFetchError for an older one."""
    if stored is None or stored.sequence is None or fetched.sequence is None or fetched.sequence >= stored.sequence:
        return
    raise BundleFetchError(
        f"its sequence {fetched.sequence} is lower than {stored.sequence}, that of the bundle in use: it is an older"
        f" bundle. If the other trust domain has begun anew, set its bundle with `meshtls bundle set`"
    )


def _context(relation: Relation, trusted: Callable[[TrustDomain], TrustBundle | None], clock: Clock) -> ssl.SSLContext:
    if relation.endpoint_id is None:
        return system_client_context()
    domain = relation.endpoint_id.trust_domain
    bundle = trusted(domain)
    if bundle is None or not bundle.x509_authorities:
        lacks = "there is no bundle" if bundle is None else "the bundle has no X.509 authority"
        raise BundleFetchError(
            f"{relation.url}: {lacks} of trust domain {domain} to authenticate {relation.endpoint_id} with; set it with"
            " `meshtls bundle set`"
        )
    try:
        return AnonymousClientContext.trusting(bundle, _is_endpoint(relation.endpoint_id), ("http/1.1",), clock)
    except ssl.SSLError as error:
        raise BundleFetchError(f"{relation.url}: OpenSSL does not take the bundle of {domain}: {error}") from error


def _is_endpoint(wanted: SpiffeId) -> Authorizer:
    """As ``authorize_id``, in the words of a federation."""

    def decide(peer: VerifiedPeer, target: Target) -> Decision:
        return Decision(
            peer.spiffe_id == wanted,
            f"the bundle endpoint is {peer.spiffe_id}, wanted {wanted}; if that is the ID of its server, give it as"
            " --endpoint-spiffe-id (endpoint_spiffe_id)",
        )

    return decide


async def _ask(url: str, context: ssl.SSLContext, known: Fetched | None, get: Get) -> HttpResponse:
    endpoint = Endpoint.of(url)
    headers = [("Host", endpoint.host), ("Accept", "application/json"), ("User-Agent", "meshtls")]
    headers += [("If-None-Match", known.etag)] if known and known.etag else []
    headers.append(("Connection", "close"))
    try:
        async with asyncio.timeout(_REQUEST_SECONDS):
            return await get(endpoint, context, headers)
    except HttpClientError as error:
        raise BundleFetchError(f"{url}: {error}") from error
    except TimeoutError as error:
        raise BundleFetchError(f"{url}: no complete answer within {_REQUEST_SECONDS:.0f} s") from error


def _redirected(url: str, answer: HttpResponse) -> str:
    location = answer.header("location")
    if location is None:
        raise BundleFetchError(f"{url}: status {answer.status} without a Location")
    try:
        to = urljoin(url, location)
        Endpoint.of(to)
    except ValueError as error:
        raise BundleFetchError(f"{url}: redirected to an address that may not be followed: {error}") from error
    return to


def _bundle(relation: Relation, own: TrustDomain, answer: HttpResponse, known: Fetched | None) -> Fetched:
    if answer.status == 304 and known is not None and known.etag:
        return known
    if answer.status != 200:
        raise BundleFetchError(f"{relation.url}: wanted status 200, got {answer.status}")
    encoding = answer.header("content-encoding")
    if encoding not in (None, "", "identity"):
        raise BundleFetchError(f"{relation.url}: wanted no Content-Encoding, got {shown(encoding)}")
    try:
        bundle = TrustBundle.from_jwks(relation.trust_domain, answer.body)
    except BundleError as error:
        raise BundleFetchError(f"{relation.url}: {error}") from error
    if has_authority_of(bundle, own):
        raise BundleFetchError(
            f"{relation.url}: wanted the bundle of {relation.trust_domain}, got an authority of {own}, our own trust"
            " domain"
        )
    etag = answer.header("etag") or ""
    return Fetched(bundle, etag if etag.isascii() and etag.isprintable() and len(etag) <= 256 else "")
