"""The keys of a server's file. Where SPIRE has the same thing, the name is SPIRE's. Pure; needs no data store."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec

from meshtls.ca.keys.manager import KeyAlgorithm
from meshtls.config.keys import (
    DURATION,
    LOG_LEVEL,
    PATH,
    PORT,
    TEXT,
    TRUST_DOMAIN,
    Key,
    Value,
    choice,
    duration_text,
)
from meshtls.config.reading import Found, Rule, RuleProblems
from meshtls.errors import RequestError
from meshtls.rpc.limits import Limits
from meshtls.scalars import duration, shown
from meshtls.spiffeid import TrustDomain

__all__ = ["DEFAULT_LIMITS", "CaSubjectKeys", "DatastoreKeys", "KeyManagerKeys", "NodeAttestors", "ServerFile"]

#: An agent keeps a connection open.
DEFAULT_LIMITS = Limits(connections=8192)
_LONGEST_NAME = 64


def _name(text: str) -> str:
    """A part of a CA's name (RFC 5280, appendix A.1: at most 64 characters)."""
    if not 1 <= len(text) <= _LONGEST_NAME:
        raise RequestError(f"wanted 1 to {_LONGEST_NAME} characters, got {len(text)}")
    return text


def _country(text: str) -> str:
    if not re.fullmatch(r"[A-Z]{2}", text, re.ASCII):
        raise RequestError(f"wanted a country's two letters such as US, got {shown(text)}")
    return text


def _lifetime(text: str) -> timedelta:
    wanted = duration(text)
    if wanted < timedelta(seconds=1):
        raise RequestError(f"wanted at least a second, got {shown(text)}")
    return wanted


def _sqlite(text: str) -> str:
    # Imported here: checking an address needs the data store's packages, and listing the keys does not.
    from meshtls.server.store.address import sqlite_url

    sqlite_url(text)
    return text


def _postgres(text: str) -> str:
    from meshtls.server.store.address import postgres_url

    postgres_url(text)
    return text


_NAME_JSON = {"type": "string", "minLength": 1, "maxLength": _LONGEST_NAME}
_NAME: Value[str] = Value("text", _name, _NAME_JSON)
_COMMON_NAME: Value[str] = Value(
    "text", lambda text: _name(text) if text else "", {"type": "string", "maxLength": _LONGEST_NAME}
)
_COUNTRY: Value[str] = Value("country's two letters", _country, {"type": "string", "pattern": "^[A-Z]{2}$"})
_LIFETIME: Value[timedelta] = Value("time of at least 1s", _lifetime, DURATION.json, duration_text)
_SQLITE: Value[str] = Value("path", _sqlite, {"type": "string", "minLength": 1})
_POSTGRES: Value[str] = Value(
    "postgresql:// URL, or dbname=... user=... host=...",
    _postgres,
    {"type": "string", "minLength": 1},
)
_KEY_TYPE = choice(KeyAlgorithm)


class CaSubjectKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The subject of the CA's certificates."""

    country: Annotated[tuple[str, ...], Key("Countries, two letters each.", _COUNTRY)] = ()
    organization: Annotated[tuple[str, ...], Key("Organizations.", _NAME)] = ()
    common_name: Annotated[str, Key("Common name.", _COMMON_NAME, default="what the certificate is for")] = ""


class Nothing(msgspec.Struct, frozen=True, kw_only=True):
    """A choice that has no keys of its own."""


class Sqlite(msgspec.Struct, frozen=True, kw_only=True):
    """A data store in one file."""

    connection_string: Annotated[str, Key("The file's path.", _SQLITE, default="datastore.sqlite3 in data_dir")] = ""


class Postgres(msgspec.Struct, frozen=True, kw_only=True):
    """A data store that several servers may share."""

    connection_string: Annotated[str, Key("Where the database is, and as whom to connect.", _POSTGRES)]


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """Keys on disk, each in a file that only the server's user can read."""

    keys_path: Annotated[Path | None, Key("The directory of the keys.", PATH, default="keys in data_dir")] = None


def _one_choice(found: Found[DatastoreKeys | KeyManagerKeys]) -> RuleProblems:
    given = tuple(found.section.keys)
    if len(given) != 1:
        names = ", ".join(found.kind.__struct_fields__)
        yield "", f"wanted one of {names}, got {', '.join(given) or 'none'}"


class DatastoreKeys(msgspec.Struct, frozen=True, kw_only=True):
    """One of two kinds of data store."""

    sqlite3: Annotated[Sqlite | None, Key("In one file.")] = None
    postgres: Annotated[Postgres | None, Key("In a PostgreSQL database, which several servers may share.")] = None

    RULES: ClassVar[tuple[Rule, ...]] = (_one_choice,)


class KeyManagerKeys(msgspec.Struct, frozen=True, kw_only=True):
    """One of two places for the server's keys."""

    disk: Annotated[Disk | None, Key("In files that only the server's user can read.")] = None
    memory: Annotated[Nothing | None, Key("Nowhere: each start makes a new CA.")] = None

    RULES: ClassVar[tuple[Rule, ...]] = (_one_choice,)


def _some_bundle(found: Found[X509Pop]) -> RuleProblems:
    if not {"ca_bundle_path", "ca_bundle_paths"} & set(found.given):
        yield "ca_bundle_path", "this key is required, and it is missing"


class X509Pop(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes that attest with a certificate that they have from elsewhere."""

    ca_bundle_path: Annotated[
        Path | None,
        Key("The CAs of such certificates, in PEM.", PATH, required="unless ca_bundle_paths is there", default="none"),
    ] = None
    ca_bundle_paths: Annotated[tuple[Path, ...], Key("The same in several files.", PATH)] = ()

    RULES: ClassVar[tuple[Rule, ...]] = (_some_bundle,)


class NodeAttestors(msgspec.Struct, frozen=True, kw_only=True):
    """The methods of node attestation; one that is not named is not accepted."""

    join_token: Annotated[Nothing | None, Key("A token of `meshtls token generate`, good for one node.")] = None
    x509pop: Annotated[X509Pop | None, Key("A certificate that the node has from elsewhere.")] = None


def _half_of_ca_ttl_is_a_life(ca_ttl: timedelta) -> RuleProblems:
    if ca_ttl < timedelta(seconds=2):
        yield "ca_ttl", f"wanted at least 2s, got {duration_text(ca_ttl)}"


class ServerFile(msgspec.Struct, frozen=True, kw_only=True):
    """A server's file, key by key."""

    trust_domain: Annotated[TrustDomain, Key("The trust domain that this server issues for.", TRUST_DOMAIN)]
    data_dir: Annotated[Path, Key("The server's own directory: it alone may use it.", PATH)] = Path("meshtls-data")
    socket_path: Annotated[
        Path | None, Key("The administrators' Unix socket.", PATH, default="admin.sock in data_dir")
    ] = None
    bind_address: Annotated[str, Key("The address that both ports listen on.", TEXT)] = "127.0.0.1"
    bind_port: Annotated[
        int, Key("The port of agents and administrators, over mutual TLS; 0 takes a free one.", PORT)
    ] = 8081
    attest_port: Annotated[
        int | None,
        Key(
            "The port of nodes that have no SVID yet; it serves nothing else.", PORT, default="the one above bind_port"
        ),
    ] = None
    log_level: Annotated[str, Key("The lowest level that is logged on standard error.", LOG_LEVEL, live=True)] = "INFO"
    ca_subject: Annotated[
        CaSubjectKeys | None, Key("The subject of the CA's certificates.", default="organization meshtls")
    ] = None
    ca_key_type: Annotated[KeyAlgorithm, Key("The type of the CA's own keys.", _KEY_TYPE)] = KeyAlgorithm.P256
    jwt_key_type: Annotated[
        KeyAlgorithm,
        Key("The type of the key that signs JWT-SVIDs: EC types sign ES256 or ES384, RSA types RS256.", _KEY_TYPE),
    ] = KeyAlgorithm.P256
    ca_ttl: Annotated[
        timedelta, Key("How long the intermediate that signs is valid; it is renewed at half of that.", _LIFETIME)
    ] = timedelta(hours=24)
    agent_ttl: Annotated[
        timedelta, Key("How long an agent's SVID is valid: at most half of ca_ttl.", _LIFETIME, live=True)
    ] = timedelta(hours=1)
    default_x509_svid_ttl: Annotated[
        timedelta,
        Key(
            "How long an X509-SVID is valid unless its entry sets a TTL: at most half of ca_ttl.", _LIFETIME, live=True
        ),
    ] = timedelta(hours=1)
    default_jwt_svid_ttl: Annotated[
        timedelta, Key("How long a JWT-SVID is valid unless its entry sets a TTL.", _LIFETIME, live=True)
    ] = timedelta(minutes=5)
    limits: Annotated[Limits, Key("Limits for each caller, on each of the three listeners.", live=True)] = (
        DEFAULT_LIMITS
    )
    datastore: Annotated[
        DatastoreKeys | None, Key("Where entries, agents and bundles are kept: one of these.", default="sqlite3")
    ] = None
    key_manager: Annotated[
        KeyManagerKeys | None, Key("Where the CA's keys are kept: one of these.", default="disk")
    ] = None
    node_attestors: Annotated[
        NodeAttestors | None,
        Key("The ways in which nodes may attest: any of these.", default="join_token", live=True),
    ] = None

    RULES: ClassVar[tuple[Rule, ...]] = (_half_of_ca_ttl_is_a_life,)
