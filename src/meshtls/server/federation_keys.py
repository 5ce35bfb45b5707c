"""The keys of a server's file under ``federation``. The names are SPIRE's where SPIRE has the same thing. Pure."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec

from meshtls.config.keys import DURATION, PATH, PORT, TEXT, TRUST_DOMAIN, WORKLOAD_ID, Key, Value, duration_text
from meshtls.config.reading import Found, Rule, RuleProblems
from meshtls.errors import RequestError
from meshtls.scalars import duration, shown
from meshtls.serverapi.federation import endpoint_url
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["BundleEndpointKeys", "FederatesWithKeys", "FederationKeys"]


def _refresh_hint(text: str) -> timedelta:
    wanted = duration(text)
    if wanted < timedelta(seconds=1) or wanted.microseconds:
        raise RequestError(f"wanted whole seconds such as 5m, got {shown(text)}")
    return wanted


_URL: Value[str] = Value("https URL", endpoint_url, {"type": "string", "pattern": "^https://"})
_HINT: Value[timedelta] = Value("time in whole seconds", _refresh_hint, DURATION.json, duration_text)


class SpiffeEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoint presents the server's own X509-SVID."""


class WebEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoint presents a certificate that its clients' systems trust."""

    cert_file_path: Annotated[
        Path, Key("The certificate and its intermediates, in PEM; read again when it is replaced.", PATH)
    ]
    key_file_path: Annotated[Path, Key("Its key, in PEM.", PATH)]


def _at_most_one(found: Found[BundleEndpointKeys]) -> RuleProblems:
    if {"https_spiffe", "https_web"} <= set(found.given):
        yield "https_web", "wanted one of https_spiffe, https_web, got both"


class BundleEndpointKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTPS server of our own bundle, for other trust domains."""

    address: Annotated[str, Key("The address that it listens on.", TEXT)] = "127.0.0.1"
    port: Annotated[int, Key("Its port; 0 takes a free one.", PORT)] = 8443
    refresh_hint: Annotated[timedelta, Key("How often others are asked to fetch the bundle.", _HINT)] = timedelta(
        minutes=5
    )
    https_spiffe: Annotated[
        SpiffeEndpoint | None, Key("It presents the server's own X509-SVID.", default="this, without https_web")
    ] = None
    https_web: Annotated[WebEndpoint | None, Key("It presents a certificate from files.")] = None

    RULES: ClassVar[tuple[Rule, ...]] = (_at_most_one,)


class SpiffeProfile(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoint presents an X509-SVID, verified by the newest bundle of its trust domain."""

    endpoint_spiffe_id: Annotated[SpiffeId, Key("The SPIFFE ID of the endpoint's server.", WORKLOAD_ID)]


class WebProfile(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoint presents a certificate for its host name, verified by the CAs of this system."""


def _one_profile(found: Found[FederatesWithKeys]) -> RuleProblems:
    given = sorted({"https_spiffe", "https_web"} & set(found.given))
    if len(given) != 1:
        yield "", f"wanted one of https_spiffe, https_web, got {' and '.join(given) or 'none'}"


class FederatesWithKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Another trust domain, and where its bundle is."""

    trust_domain: Annotated[TrustDomain, Key("The other trust domain.", TRUST_DOMAIN)]
    bundle_endpoint_url: Annotated[str, Key("The URL of its bundle endpoint.", _URL)]
    https_spiffe: Annotated[SpiffeProfile | None, Key("The endpoint presents an X509-SVID.")] = None
    https_web: Annotated[
        WebProfile | None, Key("The endpoint presents a certificate for its host name, of a CA of this system.")
    ] = None
    trust_domain_bundle_path: Annotated[
        Path | None,
        Key(
            "A SPIFFE bundle document (JWKS) of this trust domain, set if the server has no bundle of it yet.",
            PATH,
            default="the bundle of meshtls bundle set",
        ),
    ] = None

    RULES: ClassVar[tuple[Rule, ...]] = (_one_profile,)


def _each_domain_once(federates_with: tuple[FederatesWithKeys, ...]) -> RuleProblems:
    names = [one.trust_domain for one in federates_with]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield "federates_with", f"wanted each trust domain once, got {name} again"


class FederationKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Bundles that are exchanged with other trust domains."""

    bundle_endpoint: Annotated[
        BundleEndpointKeys | None, Key("The HTTPS server of our own bundle, for other trust domains.", default="none")
    ] = None
    federates_with: Annotated[
        tuple[FederatesWithKeys, ...],
        Key("Relationships that meshtls federation can't change. They override those that were made with it."),
    ] = ()

    RULES: ClassVar[tuple[Rule, ...]] = (_each_domain_once,)
