"""Maps a service to its SPIFFE ID and a SPIFFE ID to its service; the two functions are inverse. Pure.

==============  ========================  =====================
namespace       path of service-a         form
==============  ========================  =====================
none            ``/service-a``            the bare service
``ns-1``        ``/ns-1/service-a``       ``ns-<anything>``
``default``     ``/ns/default/sa/...``    Kubernetes and Istio
==============  ========================  =====================
"""

from __future__ import annotations

from dataclasses import dataclass

from meshtls.errors import InvalidSpiffeIdError
from meshtls.scalars import shown
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["Named", "id_of", "named_by", "verify_identity"]

_PREFIX = "ns-"
_FORMS = "/ns-<namespace>/<service>, /ns/<namespace>/sa/<service> or /<service>"


@dataclass(frozen=True, slots=True)
class Named:
    """What a SPIFFE ID names; ``namespace`` is None for a bare service."""

    service: str
    namespace: str | None


def id_of(service: str, namespace: str | None, trust_domain: TrustDomain) -> SpiffeId:
    """The SPIFFE ID of this service. Raises InvalidSpiffeIdError for a name that is not a single path segment."""
    for name in (service, namespace):
        if name is not None and (not name or "/" in name):
            raise InvalidSpiffeIdError(f"name {shown(name)}: wanted one or more characters and no '/'")
    if namespace is None:
        return SpiffeId(trust_domain, f"/{service}")
    if _is_short(namespace):
        return SpiffeId(trust_domain, f"/{namespace}/{service}")
    return SpiffeId(trust_domain, f"/ns/{namespace}/sa/{service}")


def named_by(spiffe_id: SpiffeId) -> Named:
    """What this ID names. Raises InvalidSpiffeIdError if ``id_of`` gives no path of this form."""
    match spiffe_id.segments:
        case (service,):
            return Named(service, None)
        case (namespace, service) if _is_short(namespace):
            return Named(service, namespace)
        case ("ns", namespace, "sa", service):
            return Named(service, namespace)
    found = shown(spiffe_id.path) if spiffe_id.path else "none"
    raise InvalidSpiffeIdError(f"{spiffe_id}: wanted a path {_FORMS}, got {found}")


def verify_identity(
    spiffe_id: str, trust_domain: str, service: str | None = None, namespace: str | None = None
) -> Named:
    """The service that this ID names, in this trust domain and, if they are given, this service and namespace.

    Raises InvalidSpiffeIdError that says what is wrong.
    """
    parsed, wanted = SpiffeId.parse(spiffe_id), TrustDomain.parse(trust_domain)
    if not parsed.member_of(wanted):
        raise InvalidSpiffeIdError(f"{parsed}: wanted trust domain {wanted}, got {parsed.trust_domain}")
    named = named_by(parsed)
    for what, expected, found in (("service", service, named.service), ("namespace", namespace, named.namespace)):
        if expected is not None and found != expected:
            raise InvalidSpiffeIdError(
                f"{parsed}: wanted {what} {shown(expected)}, got {shown(found) if found else 'none'}"
            )
    return named


def _is_short(namespace: str) -> bool:
    return namespace.startswith(_PREFIX) and namespace != _PREFIX
