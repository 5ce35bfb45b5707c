"""How ``meshtls policy`` judges tokens: by the key sets that stand in the documents or in files. It fetches none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meshtls.clock import SystemClock
from meshtls.errors import ConfigError, RequestError
from meshtls.policy.istio.lint import Finding, Severity
from meshtls.policy.istio.model import Documents, JwtRule, RequestAuthentication
from meshtls.policy.jwt.authenticate import Keys, NoKeys
from meshtls.policy.jwt.review import TokenReview
from meshtls.policy.jwt.svids import svid_domain
from meshtls.redaction import bare_url
from meshtls.request_auth.authenticator import check_key_sets, is_fetched, local_source
from meshtls.request_auth.settings import LENIENT, KeySetSettings
from meshtls.spiffeid import SpiffeId

__all__ = ["key_set_findings", "token_review"]


def token_review(rules: Iterable[JwtRule], own_id: SpiffeId) -> TokenReview:
    """A TokenReview by a workload's rules. Raises ConfigError for a key set that can't be read."""
    rules = tuple(rules)
    clock = SystemClock()
    return TokenReview(rules, [_keys(one, clock) for one in rules], own_id, clock.now())


def _keys(rule: JwtRule, clock: SystemClock) -> Keys:
    if (domain := svid_domain(rule)) is not None:
        return NoKeys(f"the bundle of {domain} is not at hand here; give the token's claims with --claim instead")
    if is_fetched(rule):
        return NoKeys(
            f"{bare_url(rule.jwks_uri or '')} is not fetched here; give the token's claims with --claim instead"
        )
    try:
        return local_source(rule, None, clock).keys
    except RequestError as error:
        raise ConfigError(f"jwks of issuer {rule.issuer}: {error}") from error


def key_set_findings(documents: Documents) -> Iterator[Finding]:
    """Key sets that no sidecar can use, and those that it can use only with its loud permission."""
    for one in documents.request_authentications:
        if one.target_refs:
            continue
        problems = _key_set_problems(one, KeySetSettings())
        unusable = _key_set_problems(one, LENIENT) if problems else ()
        for problem in unusable:
            yield Finding(Severity.ERROR, "key-set-unusable", one.meta.place, problem)
        for problem in problems:
            if problem not in unusable:
                yield Finding(Severity.WARNING, "key-set-over-plaintext", one.meta.place, problem)


def _key_set_problems(given: RequestAuthentication, settings: KeySetSettings) -> tuple[str, ...]:
    try:
        check_key_sets(given.rules, settings)
    except ConfigError as error:
        return error.problems
    return ()
