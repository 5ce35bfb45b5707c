"""JWT-SVIDs under a RequestAuthentication: a rule whose keys are those of a trust domain's bundle. Pure.

::

    jwtRules:
    - issuer: spiffe://example.org
    - issuer: https://oidc.example.com
      jwksUri: spiffe://example.com

Each takes the JWT-SVIDs of its trust domain, verified by the JWT authorities of the bundle. A JWT-SVID is known by its
subject, and ``iss`` need not be there (JWT-SVID, section 3); it must be the rule's issuer if that is no trust domain.
Without ``audiences`` the token has to be meant for this workload's own SPIFFE ID.
"""

from __future__ import annotations

from datetime import datetime

from meshtls.bundle import BundleSet
from meshtls.errors import InvalidSpiffeIdError, PeerError
from meshtls.policy.istio.model import JwtRule
from meshtls.policy.jwt.token import Token, TokenError
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.jwt import JwtSvid, parse_and_validate

__all__ = ["is_of_issuer", "svid_audience", "svid_domain", "verify_svid"]


_SCHEME = "spiffe://"


def svid_domain(rule: JwtRule) -> TrustDomain | None:
    """The trust domain whose JWT-SVIDs the rule takes; None for a rule with a key set of its own."""
    named = rule.jwks_uri or rule.issuer
    if rule.jwks or rule.jwks_file or not named.startswith(_SCHEME):
        return None
    try:
        spiffe_id = SpiffeId.parse(named)
    except InvalidSpiffeIdError:
        return None
    return None if spiffe_id.path else spiffe_id.trust_domain


def is_of_issuer(token: Token, rule: JwtRule, domain: TrustDomain | None) -> bool:
    """Whether the token claims to be one of the rule's, whose ``domain`` is that of ``svid_domain``."""
    return token.claims.get("iss") == rule.issuer if domain is None else _is_svid_of(token, rule, domain)


def _is_svid_of(token: Token, rule: JwtRule, domain: TrustDomain) -> bool:
    """Whether the token claims to be a JWT-SVID of this trust domain, and of the rule's issuer if that is another."""
    if not rule.issuer.startswith(_SCHEME) and token.claims.get("iss") != rule.issuer:
        return False
    subject = token.claims.get("sub")
    try:
        return isinstance(subject, str) and SpiffeId.parse(subject).trust_domain == domain
    except InvalidSpiffeIdError:
        return False


def svid_audience(token: Token, rule: JwtRule, own_id: SpiffeId) -> str:
    """The first of its audiences that is meant by the rule. Raises TokenError without one."""
    wanted = rule.audiences or (str(own_id),)
    audience = next((one for one in token.audiences if one in wanted), None)
    if audience is None:
        raise TokenError(f"JWT-SVID of {token.claims['sub']}: it is not meant for {' or '.join(wanted)}", 403)
    return audience


def verify_svid(token: Token, rule: JwtRule, bundles: BundleSet, own_id: SpiffeId, now: datetime) -> JwtSvid:
    """Raises TokenError."""
    audience = svid_audience(token, rule, own_id)
    try:
        return parse_and_validate(token.text, bundles, audience, now)
    except PeerError as error:
        raise TokenError(str(error)) from error
