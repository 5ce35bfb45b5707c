"""The fields of PeerAuthentication, AuthorizationPolicy and RequestAuthentication (security.istio.io). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from meshtls.config.document import Place, Section
from meshtls.policy.istio.fields import Field, Shape, Support, Table, Value, last_of
from meshtls.policy.istio.fields_common import SELECTOR, TARGET_REF, TARGET_REFS, one_scope
from meshtls.policy.istio.fields_values import (
    CLAIM,
    DURATION,
    FLAG,
    HEADER,
    HOST,
    IP_BLOCK,
    JWKS,
    JWKS_URI,
    NAMESPACE_PATTERN,
    OUTPUT_HEADER,
    PATH,
    PATTERN,
    PORT,
    PORT_NUMBER,
    PRINCIPAL,
    SERVICE_ACCOUNT,
    STRING,
    TEXT,
    TRUST_DOMAIN,
    one_of,
    parsed_flag,
)
from meshtls.policy.istio.fields_when import WHEN
from meshtls.policy.istio.model import (
    Action,
    AuthorizationPolicy,
    JwtRule,
    Metadata,
    MtlsMode,
    Operation,
    PeerAuthentication,
    RequestAuthentication,
    Rule,
    Source,
    TokenHeader,
)

__all__ = ["AUTHORIZATION_POLICY", "DRY_RUN", "PEER_AUTHENTICATION", "REQUEST_AUTHENTICATION"]

#: The annotation that makes an AuthorizationPolicy a shadow.
DRY_RUN = "istio.io/dry-run"

_Problems = Iterator[tuple[str, str]]
_Values = Mapping[str, Any]
_HTTP = "Only where HTTP is read: on TCP an ALLOW rule with it is skipped, in DENY and AUDIT the field is dropped."
_PAIRS = "One of the values must match."
_NOT = "None of the values may match. A peer without an identity (plaintext) passes."


def _both(name: str, attribute: str, meaning: str, of: Value, most: int = 0, without: str = _NOT) -> Iterator[Field]:
    """A field and its negation."""
    yield Field(name, f"{meaning} {_PAIRS}", of, Shape.LIST, attribute, most=most)
    negation = f"not{name[0].upper()}{name[1:]}"
    yield Field(negation, f"The negation of `{name}`. {without}", of, Shape.LIST, f"not_{attribute}", most=most)


def _not_empty(section: Section, values: _Values) -> _Problems:
    if not any(values.values()):
        yield "", "wanted at least one field with a value, got none; leave out the whole list to match anything"


def _accounts_alone(section: Section, values: _Values) -> _Problems:
    accounts = [one for one in ("serviceAccounts", "notServiceAccounts") if one in section.keys]
    others = [one for one in ("principals", "notPrincipals", "namespaces", "notNamespaces") if one in section.keys]
    if accounts and others:
        yield accounts[0], f"wanted no principals and no namespaces beside it, got {', '.join(others)}"


_PLAIN_NOT = "None of the values may match."
_SOURCE = Table(
    "source",
    (
        *_both("principals", "principals", "The peer's SPIFFE ID, verified in the TLS handshake.", PRINCIPAL),
        *_both(
            "requestPrincipals", "request_principals", f"The JWT's `issuer/subject`. {_HTTP}", PATTERN, 0, _PLAIN_NOT
        ),
        *_both(
            "namespaces", "namespaces", "The `/ns/<value>/` in the SPIFFE ID, of any trust domain.", NAMESPACE_PATTERN
        ),
        *_both(
            "serviceAccounts",
            "service_accounts",
            "`/ns/<namespace>/sa/<account>` in the SPIFFE ID, of any trust domain. Not beside principals, namespaces.",
            SERVICE_ACCOUNT,
            16,
        ),
        *_both("trustDomains", "trust_domains", "The trust domain of the SPIFFE ID.", TRUST_DOMAIN),
        *_both("ipBlocks", "ip_blocks", "The socket's address, which may be a proxy's.", IP_BLOCK, 0, _PLAIN_NOT),
        *_both(
            "remoteIpBlocks",
            "remote_ip_blocks",
            "The client's address: by X-Forwarded-For with the inbound's `num_trusted_proxies`, by the PROXY protocol"
            " with its `proxy_protocol_from`, else as `ipBlocks`. An unknown one is allowed nothing and denied all.",
            IP_BLOCK,
            0,
            _PLAIN_NOT,
        ),
    ),
    lambda place, **values: Source(**values),
    (_not_empty, _accounts_alone),
)
_OPERATION = Table(
    "operation",
    (
        *_both("hosts", "hosts", f"The Host field or `:authority`, without case. {_HTTP}", HOST, 0, _PLAIN_NOT),
        *_both("ports", "ports", "The app's port.", PORT, 0, _PLAIN_NOT),
        *_both("methods", "methods", f"The method, with case. {_HTTP}", PATTERN, 0, _PLAIN_NOT),
        *_both("paths", "paths", f"The normalized path, without its query. {_HTTP}", PATH, 0, _PLAIN_NOT),
    ),
    lambda place, **values: Operation(**values),
    (_not_empty,),
)
_RULE = Table(
    "rule",
    (
        Field(
            "from",
            "One of the sources must match; without it any does.",
            Table("from", (Field("source", "A source.", _SOURCE, Shape.ONE, "source", required=True),), last_of),
            Shape.LIST,
            "sources",
            most=512,
        ),
        Field(
            "to",
            "One of the operations must match; without it any does.",
            Table(
                "to", (Field("operation", "An operation.", _OPERATION, Shape.ONE, "operation", required=True),), last_of
            ),
            Shape.LIST,
            "operations",
        ),
        Field("when", "All conditions must match.", WHEN, Shape.LIST, "conditions"),
    ),
    lambda place, **values: Rule(place=place, **values),
    (
        lambda section, values: [
            (name, f"wanted at least one item, got none; leave out {name} to match anything")
            for name, attribute in (("from", "sources"), ("to", "operations"))
            if values.get(attribute) == ()
        ],
    ),
)


def _action_fits(section: Section, values: _Values) -> _Problems:
    action = values.get("action", Action.ALLOW)
    if action in (Action.DENY, Action.CUSTOM) and not values.get("rules"):
        yield "rules", f"wanted at least one rule for {action.value}, got none; `rules: [{{}}]` matches everything"
    if action is Action.CUSTOM and not values.get("provider"):
        yield "provider", "wanted the name of a provider for CUSTOM, got none"
    if action is not Action.CUSTOM and "provider" in section.keys:
        yield "provider", f"wanted a provider for CUSTOM only, got one for {action.value}"


def _authorization_policy(place: Place, target_ref: bool = False, target_refs: Any = (), **values: Any) -> Any:
    def make(meta: Metadata) -> AuthorizationPolicy:
        # What can't be read is no dry run: the policy is in force, and lint says so.
        dry_run = parsed_flag(dict(meta.annotations).get(DRY_RUN, "")) is True
        return AuthorizationPolicy(meta=meta, dry_run=dry_run, target_refs=target_ref or bool(target_refs), **values)

    return make


AUTHORIZATION_POLICY = Table(
    "AuthorizationPolicy",
    (
        SELECTOR,
        TARGET_REF,
        TARGET_REFS,
        Field(
            "action",
            "ALLOW, if it is missing. A matching DENY beats ALLOW; CUSTOM asks the provider first; AUDIT only records.",
            one_of(Action),
            attribute="action",
        ),
        Field(
            "provider",
            "Who decides for CUSTOM.",
            Table(
                "provider",
                (Field("name", "A provider of the configuration.", TEXT, Shape.ONE, "provider", required=True),),
                last_of,
            ),
            attribute="provider",
        ),
        Field(
            "rules",
            "The policy matches if one of them does. None: an ALLOW that never matches, which denies everything."
            " `{}` matches everything.",
            _RULE,
            Shape.LIST,
            "rules",
            most=512,
        ),
    ),
    _authorization_policy,
    (one_scope, _action_fits),
)


_MTLS = Table(
    "mtls",
    (
        Field(
            "mode",
            "STRICT: mutual TLS only. PERMISSIVE: plaintext, too. DISABLE: plaintext only."
            " UNSET, or missing: that of the wider scope.",
            one_of(MtlsMode),
            attribute="mode",
        ),
    ),
    lambda place, mode=MtlsMode.UNSET: mode,
)


def _ports_of_workloads(section: Section, values: _Values) -> _Problems:
    if "portLevelMtls" not in section.keys:
        return
    if not values.get("ports"):
        yield "portLevelMtls", "wanted at least one port, got none"
    if not values.get("selector"):
        yield "portLevelMtls", "wanted a selector with labels beside it, got none: ports belong to a workload"


PEER_AUTHENTICATION = Table(
    "PeerAuthentication",
    (
        SELECTOR,
        Field("mtls", "What inbound ports take.", _MTLS, attribute="mode"),
        Field(
            "portLevelMtls",
            "What single ports of the workload take. Only beside a selector.",
            _MTLS,
            Shape.MAP,
            "ports",
            key=PORT_NUMBER,
        ),
    ),
    lambda place, **values: partial(PeerAuthentication, **values),
    (_ports_of_workloads,),
)


def _keys_given_once(section: Section, values: _Values) -> _Problems:
    given = [one for one in ("jwks", "jwksUri", "jwksFile") if one in section.keys]
    if len(given) > 1:
        yield given[1], f"wanted one of jwks, jwksUri and jwksFile, got {' and '.join(given)}"
    if not given and not values["issuer"].startswith("spiffe://"):
        yield "", "wanted jwks, jwksUri or jwksFile, got none; keys are not looked for at the issuer's address"


_JWT_RULE = Table(
    "jwtRule",
    (
        Field("issuer", "The token's `iss`. A SPIFFE trust domain needs no key set: the Workload API has its keys.",
              TEXT, Shape.ONE, "issuer", required=True),
        Field("audiences", "One of them must be in the token's `aud`; empty is any.", TEXT, Shape.LIST, "audiences"),
        Field("jwks", "The key set itself.", JWKS, Shape.ONE, "jwks"),
        Field("jwksUri", "Where the key set is fetched.", JWKS_URI, Shape.ONE, "jwks_uri"),
        Field("jwksFile", "The key set in a file. An addition of meshtls.", TEXT, Shape.ONE, "jwks_file"),
        Field(
            "fromHeaders",
            "The headers with the token. Without any `from`: `Authorization: Bearer`, the parameter `access_token`.",
            Table(
                "fromHeader",
                (
                    Field("name", "The header.", HEADER, Shape.ONE, "name", required=True),
                    Field("prefix", "What is before the token in it.", STRING, Shape.ONE, "prefix"),
                ),
                lambda place, **values: TokenHeader(**values),
            ),
            Shape.LIST,
            "from_headers",
        ),
        Field("fromParams", "The query parameters with the token.", TEXT, Shape.LIST, "from_params"),
        Field("fromCookies", "The cookies with the token.", TEXT, Shape.LIST, "from_cookies"),
        Field("outputPayloadToHeader", "The header in which the app gets the payload, in base64url.", OUTPUT_HEADER,
              Shape.ONE, "output_payload_to_header"),
        Field(
            "outputClaimToHeaders",
            "Headers in which the app gets single claims.",
            Table(
                "outputClaimToHeader",
                (
                    Field("header", "The header.", OUTPUT_HEADER, Shape.ONE, "header", required=True),
                    Field("claim", "The claim.", CLAIM, Shape.ONE, "claim", required=True),
                ),
                lambda place, header, claim: (header, claim),
            ),
            Shape.LIST,
            "output_claim_to_headers",
        ),
        Field("forwardOriginalToken", "The app gets the token, too.", FLAG, Shape.ONE, "forward_original_token"),
        Field("timeout", "For a fetch of `jwksUri`; 5 s, if it is missing.", DURATION, Shape.ONE, "timeout"),
        Field("spaceDelimitedClaims", "Claims that are split at spaces: not supported.", support=Support.REFUSED),
    ),
    lambda place, **values: JwtRule(**values),
    (_keys_given_once,),
)  # fmt: skip

REQUEST_AUTHENTICATION = Table(
    "RequestAuthentication",
    (
        SELECTOR,
        TARGET_REF,
        TARGET_REFS,
        Field("jwtRules", "Tokens are verified by the rule of their issuer. A bad token is refused; without a token"
              " a request passes, and only an AuthorizationPolicy can require one.", _JWT_RULE, Shape.LIST, "rules"),
    ),
    lambda place, target_ref=False, target_refs=(), **values: partial(
        RequestAuthentication, target_refs=target_ref or bool(target_refs), **values
    ),
    (one_scope,),
)  # fmt: skip
