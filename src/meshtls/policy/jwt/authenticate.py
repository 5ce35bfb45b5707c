"""Who makes an HTTP request, by the tokens in it (Istio's RequestAuthentication). Pure.

- No token: the request goes on without ``RequestAuth``. Whether that is enough is for the AuthorizationPolicy.
- Every token that is found must be accepted by one of the rules that look where it was; otherwise the request is
  refused, so that no app takes a token for verified that was not.
- Several tokens: the first rule that accepted one names the caller (Istio leaves this undefined).
- A rule without usable keys accepts nothing.

A token is checked from the cheapest to the dearest: length, header, claims, key and last the signature. One request
makes us check at most ``MAX_TOKENS`` tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from meshtls.bundle import BundleSet
from meshtls.policy.decision import DENIED_TEXT
from meshtls.policy.istio.model import JwtRule
from meshtls.policy.jwt.carriers import Carrier, Carriers, without_carriers
from meshtls.policy.jwt.key_set import KeySet
from meshtls.policy.jwt.outputs import output_headers, reserved_names, without_reserved
from meshtls.policy.jwt.svids import is_of_issuer, svid_domain, verify_svid
from meshtls.policy.jwt.token import LEEWAY, Token, TokenError, UnknownKeyError, check_claims, check_signature
from meshtls.policy.jwt.verified import Verified, VerifiedTokens
from meshtls.policy.request import WORD_CLAIMS, RequestAuth
from meshtls.spiffeid import SpiffeId
from meshtls.svid.jwt_format import shortened
from meshtls.wire.http import HttpRequest, Refuse

__all__ = ["MAX_TOKENS", "Authenticated", "Keys", "NeedsKeys", "NoKeys", "TokenAuthenticator", "auth_of"]

MAX_TOKENS = 4
_SHOWN = 4
_FORBIDDEN = 403
_REFUSED_TEXT = "the request's token is refused\n"


class NoKeys(NamedTuple):
    """A rule's key set is not known; ``reason`` in words."""

    reason: str


#: What a rule's tokens are verified by: a key set, or for JWT-SVIDs the bundles.
Keys = KeySet | BundleSet | NoKeys


class Authenticated(msgspec.Struct, frozen=True):
    """A request whose tokens were verified. ``request`` is what the policy judges and the app gets: without tokens that
    are not to be forwarded, with the headers that tell of the verified ones. ``auth`` is None without a token.
    """

    request: HttpRequest
    auth: RequestAuth | None = None


class NeedsKeys(msgspec.Struct, frozen=True):
    """Refused, unless newer key sets of these rules, by index, have the key. ``refusal`` is the answer without them."""

    rules: frozenset[int]
    refusal: Refuse


class _Accepted(NamedTuple):
    rule: int
    carrier: Carrier
    verified: Verified


class TokenAuthenticator:
    """The rules of one workload, in order, and what was verified by them. ``own_id`` is the workload's."""

    def __init__(self, rules: Sequence[JwtRule], own_id: SpiffeId) -> None:
        self._rules = tuple(rules)
        self._own_id = own_id
        self._carriers = Carriers(self._rules)
        self._domains = tuple(map(svid_domain, self._rules))
        self._verified = tuple(VerifiedTokens() for _ in self._rules)
        self._reserved = reserved_names(self._rules)

    def authenticate(
        self, request: HttpRequest, keys: Sequence[Keys], now: datetime
    ) -> Authenticated | NeedsKeys | Refuse:
        """``keys`` are those of each rule, in the rules' order."""
        carriers = self._carriers.find(request)
        if len(carriers) > MAX_TOKENS:
            return _refusal(f"wanted at most {MAX_TOKENS} tokens in a request, got {len(carriers)}")
        accepted: list[_Accepted] = []
        for one in carriers:
            found = self._judge(one, keys, now)
            if isinstance(found, Refuse | NeedsKeys):
                return found
            accepted.append(found)
        accepted.sort(key=lambda one: one.rule)
        consumed = [one.carrier for one in accepted if not self._rules[one.rule].forward_original_token]
        kept = without_reserved(without_carriers(request, consumed) if consumed else request, self._reserved)
        outputs = dict(
            header for one in reversed(accepted) for header in output_headers(self._rules[one.rule], one.verified)
        )
        if outputs:
            others = (one for one in kept.headers if one[0] not in outputs)
            kept = msgspec.structs.replace(kept, headers=(*others, *outputs.items()))
        return Authenticated(kept, accepted[0].verified.auth if accepted else None)

    def _judge(self, carrier: Carrier, keys: Sequence[Keys], now: datetime) -> _Accepted | NeedsKeys | Refuse:
        """Judge by the first rule that takes the token; otherwise the refusal of the rule that came nearest to it."""
        # No exception is kept: one that is, and its traceback, hold each other until the garbage is collected.
        nearest: Refuse | None = None
        wanting: set[int] = set()
        read: dict[str, Token] = {}
        for rule, text in carrier.candidates:
            known = self._verified[rule].get(text, keys[rule], now)
            if known is not None:
                return _Accepted(rule, carrier, known)
            try:
                if text not in read:
                    read[text] = Token.read(text)
                token = read[text]
                if not is_of_issuer(token, self._rules[rule], self._domains[rule]):
                    continue
                verified = self._verify(rule, token, keys[rule], now)
            except UnknownKeyError as error:
                nearest = _refusal(str(error), error.status)
                wanting.add(rule)
            except TokenError as error:
                nearest = nearest or _refusal(str(error), error.status)
            else:
                self._verified[rule].add(text, verified)
                return _Accepted(rule, carrier, verified)
        refusal = nearest or _refusal(self._foreign(carrier, read))
        return NeedsKeys(frozenset(wanting), refusal) if wanting else refusal

    def _verify(self, number: int, token: Token, keys: Keys, now: datetime) -> Verified:
        rule = self._rules[number]
        if isinstance(keys, NoKeys):
            raise UnknownKeyError(f"JWT of issuer {shortened(rule.issuer)}: {keys.reason}")
        if isinstance(keys, BundleSet):
            svid = verify_svid(token, rule, keys, self._own_id, now)
            return Verified(auth_of(token, rule, str(svid.spiffe_id)), token.claims, token.payload, svid.expiry)
        check_claims(token, rule, now)
        check_signature(token, keys)
        expiry = token.expiry()
        until = None if expiry is None else expiry + LEEWAY
        return Verified(auth_of(token, rule), token.claims, token.payload, until)

    def _foreign(self, carrier: Carrier, read: dict[str, Token]) -> str:
        known = list(dict.fromkeys(shortened(self._rules[rule].issuer) for rule, _ in carrier.candidates))
        listed = ", ".join(known[:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")
        got = " and ".join(dict.fromkeys(shortened(token.claims.get("iss")) for token in read.values()))
        return f"JWT: wanted the issuer to be one of {listed}, got {got}"


def auth_of(token: Token, rule: JwtRule, spiffe_id: str | None = None) -> RequestAuth:
    """What a token says that this rule took; ``spiffe_id`` is that of a JWT-SVID. Raises TokenError."""
    claims = dict(token.claims)
    if spiffe_id is not None:
        claims["iss"] = rule.issuer  # an SVID may name any issuer, and a policy would take it for that one
    for name in WORD_CLAIMS:
        if isinstance(value := claims.get(name), str):
            claims[name] = value.split()
    subject, presenter = claims.get("sub"), claims.get("azp")
    return RequestAuth(
        f"{rule.issuer}/{subject}" if subject else "",
        token.audiences,
        presenter if isinstance(presenter, str) else None,
        claims,
        spiffe_id,
    )


def _refusal(reason: str, status: int = 401) -> Refuse:
    """A refusal with the challenge of RFC 6750, section 3. The client is not told which issuers and audiences are
    configured.
    """
    if not (reason.isascii() and reason.isprintable()):
        reason = "".join(one if one.isascii() and one.isprintable() else "?" for one in reason)
    text = DENIED_TEXT if status == _FORBIDDEN else _REFUSED_TEXT
    return Refuse(status, text, (("www-authenticate", 'Bearer error="invalid_token"'),), reason)
