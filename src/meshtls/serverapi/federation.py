"""A relationship with another trust domain, whose bundle the server fetches (SPIFFE Federation, section 5.1). Pure.

Nothing of it is inferred: not the URL or the endpoint's ID from the trust domain, nor the trust domain from these.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from urllib.parse import urlsplit

from meshtls.address import Address, is_host_name
from meshtls.bundle import TrustBundle
from meshtls.errors import RequestError
from meshtls.redaction import shown_url
from meshtls.scalars import workload_id
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["Endpoint", "Profile", "Relation", "RelationStatus", "endpoint_url"]

_HTTPS_PORT = 443
_LONGEST_URL = 2048


class Profile(Enum):
    """How the server of a bundle endpoint is authenticated (SPIFFE Federation, section 5.2)."""

    HTTPS_WEB = "https_web"
    HTTPS_SPIFFE = "https_spiffe"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A URL in parts: where to connect, and the target and the Host of the request."""

    address: Address
    target: str
    host: str

    @classmethod
    def of(cls, url: str) -> Endpoint:
        """Raises RequestError unless this is an https URL without userinfo (SPIFFE Federation, section 5.1)."""
        wanted = f"wanted a URL such as https://partner.example:8443/, got {shown_url(url)}"
        if len(url) > _LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
            raise RequestError(wanted)
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise RequestError(wanted) from error
        if parts.scheme != "https" or not host or not is_host_name(host) or port == 0 or parts.fragment:
            raise RequestError(wanted)
        if "@" in parts.netloc:
            raise RequestError("wanted a URL without a user's name, got one with it")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        address = Address(host, port or _HTTPS_PORT)
        bare = f"[{host}]" if ":" in host else host
        return cls(address, target, bare if address.port == _HTTPS_PORT else str(address))


def endpoint_url(text: str) -> str:
    """The URL of a bundle endpoint, as it is. Raises RequestError."""
    Endpoint.of(text)
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """The bundle of ``trust_domain`` is at ``url``. ``endpoint_id`` is that of the endpoint's server with https_spiffe.

    Raises RequestError.
    """

    trust_domain: TrustDomain
    url: str
    profile: Profile
    endpoint_id: SpiffeId | None = None

    def __post_init__(self) -> None:
        Endpoint.of(self.url)
        if self.profile is Profile.HTTPS_SPIFFE and self.endpoint_id is None:
            raise RequestError(
                f"federation with {self.trust_domain}: wanted the SPIFFE ID of its bundle endpoint with https_spiffe"
            )
        if self.profile is Profile.HTTPS_WEB and self.endpoint_id is not None:
            raise RequestError(
                f"federation with {self.trust_domain}: wanted no SPIFFE ID of the bundle endpoint with https_web, whose"
                f" server is authenticated by its host name; got {self.endpoint_id}"
            )
        if self.endpoint_id is not None:
            workload_id(str(self.endpoint_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationStatus:
    """A relation, and how the server that was asked gets on with it since its start.

    - ``configured``: it is in the server's file, not in its store.
    - ``bundle``: the one in use, which may have been set by an administrator; None if there is none.
    - ``fetched_at``: when the endpoint last gave the bundle in use; ``next_at``: when it is asked again.
    - ``failure``: why the last attempt failed; empty if it did not.
    """

    relation: Relation
    configured: bool
    bundle: TrustBundle | None = None
    fetched_at: datetime | None = None
    next_at: datetime | None = None
    failure: str = ""
