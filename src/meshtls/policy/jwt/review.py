"""What a workload's rules for tokens say of a request given by hand: with a token, or with a token's claims. Pure.

Claims are taken for those of a token whose signature and times are right; its issuer and audience are compared with the
rules, as of a real one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from meshtls.policy.decision import Decision
from meshtls.policy.istio.model import JwtRule
from meshtls.policy.jwt.authenticate import Authenticated, Keys, NeedsKeys, TokenAuthenticator, auth_of
from meshtls.policy.jwt.svids import is_of_issuer, svid_audience, svid_domain
from meshtls.policy.jwt.token import TIMES, Token, TokenError, check_claims
from meshtls.policy.request import Request, RequestAuth
from meshtls.scalars import plain_or_shown
from meshtls.spiffeid import SpiffeId
from meshtls.svid.jwt_format import shortened

__all__ = ["TokenReview"]


class TokenReview:
    """``rules`` are the workload's with the ``keys`` of each that are at hand, ``own_id`` is the workload's."""

    def __init__(self, rules: Sequence[JwtRule], keys: Sequence[Keys], own_id: SpiffeId, now: datetime) -> None:
        self._rules, self._keys, self._own_id, self._now = tuple(rules), tuple(keys), own_id, now
        self._authenticator = TokenAuthenticator(self._rules, own_id)

    def judge(self, request: Request) -> Decision | tuple[Request, tuple[str, ...]]:
        """The denial of a request whose token is refused; else the request with what its token says, and what of the
        token was not judged.
        """
        if request.auth is not None:
            return self._by_claims(request, request.auth)
        if request.http is None:
            return request, ()
        found = self._authenticator.authenticate(request.http, self._keys, self._now)
        if isinstance(found, Authenticated):
            return replace(request, http=found.request, auth=found.auth), ()
        refusal = found.refusal if isinstance(found, NeedsKeys) else found
        return _refused(refusal.status, refusal.reason)

    def _by_claims(self, request: Request, auth: RequestAuth) -> Decision | tuple[Request, tuple[str, ...]]:
        if not self._rules:
            return request, (
                "the token: no RequestAuthentication of the workload is given, and without one no token is read and its"
                " claims are not known",
            )
        claims = {name: value for name, value in auth.claims.items() if name not in TIMES}
        token = Token("", "", None, claims, b"")
        own = [rule for rule in self._rules if is_of_issuer(token, rule, svid_domain(rule))]
        if not own:
            issuers = ", ".join(dict.fromkeys(plain_or_shown(rule.issuer) for rule in self._rules))
            return _refused(401, f"JWT: wanted the issuer to be one of {issuers}, got {shortened(claims.get('iss'))}")
        errors: list[TokenError] = []
        for rule in own:
            try:
                taken = self._auth(token, rule, auth.claims)
            except TokenError as error:
                errors.append(error)
            else:
                return replace(request, auth=taken), (
                    "the token's signature and times: --claim is taken for a claim of a verified token",
                )
        return _refused(errors[0].status, str(errors[0]))

    def _auth(self, token: Token, rule: JwtRule, claims: Mapping[str, object]) -> RequestAuth:
        """As of a token with ``claims`` that the rule takes. ``token`` is without its times. Raises TokenError."""
        svid = svid_domain(rule) is not None
        if svid:
            svid_audience(token, rule, self._own_id)
        else:
            check_claims(token, rule, self._now)
        return auth_of(replace(token, claims=claims), rule, token.claims["sub"] if svid else None)


def _refused(status: int, text: str) -> Decision:
    return Decision(False, f"denied with {status}: the request's token is refused: {text}")
