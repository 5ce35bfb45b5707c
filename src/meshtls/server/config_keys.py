"""The keys of a server's file. Where SPIRE has the same thing, the name is SPIRE's. Pure; needs no data store."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

import msgspec

from meshtls.address import Address, checked_url
from meshtls.admin.keys import AdminKeys
from meshtls.ca.keys.manager import KeyAlgorithm
from meshtls.ca.tlog.note import KeyType, NoteKey
from meshtls.config.keys import (
    ADDRESS,
    DURATION,
    FLAG,
    HOST,
    LOG_LEVEL,
    PATH,
    PORT,
    TEXT,
    TRUST_DOMAIN,
    Key,
    Value,
    choice,
    duration_text,
    number,
)
from meshtls.config.reading import Found, Rule, RuleProblems
from meshtls.errors import RequestError
from meshtls.logs import LogFormat
from meshtls.observe.metrics.keys import MetricsKeys
from meshtls.redaction import shown_url
from meshtls.rpc.limits import ListenerLimits
from meshtls.scalars import duration, shown
from meshtls.server.federation_keys import FederationKeys
from meshtls.spiffeid import TrustDomain

__all__ = [
    "DEFAULT_LIMITS",
    "CaSubjectKeys",
    "DatastoreKeys",
    "KeyManagerKeys",
    "NodeAttestors",
    "RevocationKeys",
    "ServerFile",
    "TransparencyLogKeys",
    "UpstreamAuthorityKeys",
    "WitnessKeys",
]

#: An agent keeps a connection open.
DEFAULT_LIMITS = ListenerLimits(connections=8192)
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

    connection_string: Annotated[str, Key("Where the database is, and as whom to connect.", _POSTGRES, secret=True)]


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """Keys on disk, each in a file that only the server's user can read."""

    keys_path: Annotated[Path | None, Key("The directory of the keys.", PATH, default="keys in data_dir")] = None


def _one_choice(found: Found[DatastoreKeys | KeyManagerKeys | UpstreamAuthorityKeys]) -> RuleProblems:
    given = tuple(found.section.keys)
    if len(given) != 1:
        names = ", ".join(found.kind.__struct_fields__)
        yield "", f"wanted one of {names}, got {', '.join(given) or 'none'}"


class DatastoreKeys(msgspec.Struct, frozen=True, kw_only=True):
    """One of two kinds of data store."""

    sqlite3: Annotated[Sqlite | None, Key("In one file.")] = None
    postgres: Annotated[Postgres | None, Key("In a PostgreSQL database, which several servers may share.")] = None

    RULES: ClassVar[tuple[Rule, ...]] = (_one_choice,)


def _one_pin(found: Found[Pkcs11]) -> RuleProblems:
    given = [name for name in ("pin_file", "pin_env") if name in found.given]
    if len(given) != 1:
        yield "", f"wanted one of pin_file, pin_env, got {' and '.join(given) or 'none'}"


class Pkcs11(msgspec.Struct, frozen=True, kw_only=True):
    """Keys in a PKCS#11 token, such as a hardware security module, which generates them; they never leave it.

    Certificates, and keys that are not in the token, are in files as with ``disk``. Needs the extra ``hsm``.
    """

    module: Annotated[Path, Key("The token's PKCS#11 module: a shared library.", PATH)]
    token_label: Annotated[str, Key("The token's label.", TEXT)]
    pin_file: Annotated[
        Path | None,
        Key(
            "The file with the user's PIN, which only the server's user may be able to read.",
            PATH,
            required="unless pin_env is there",
            default="none",
        ),
    ] = None
    pin_env: Annotated[
        str,
        Key("The environment variable with the user's PIN.", TEXT, required="unless pin_file is there", default="none"),
    ] = ""
    intermediates: Annotated[
        bool,
        Key("Whether the keys of intermediates are in the token, too: it then signs each SVID and CRL.", FLAG),
    ] = False
    jwt_keys: Annotated[bool, Key("Whether the keys that sign JWT-SVIDs are in the token, too.", FLAG)] = False
    keys_path: Annotated[
        Path | None, Key("The directory of certificates and other keys.", PATH, default="keys in data_dir")
    ] = None

    RULES: ClassVar[tuple[Rule, ...]] = (_one_pin,)


class KeyManagerKeys(msgspec.Struct, frozen=True, kw_only=True):
    """One of three places for the server's keys."""

    disk: Annotated[Disk | None, Key("In files that only the server's user can read.")] = None
    memory: Annotated[Nothing | None, Key("Nowhere: each start makes a new CA.")] = None
    pkcs11: Annotated[Pkcs11 | None, Key("Roots in a PKCS#11 token, and on request others.")] = None

    RULES: ClassVar[tuple[Rule, ...]] = (_one_choice,)


class DiskAuthorityKeys(msgspec.Struct, frozen=True, kw_only=True):
    """A CA in PEM files, which are read again each time, so that they can be replaced."""

    cert_file_path: Annotated[
        Path, Key("The CA's certificate, followed by those that lead to the root, if it is no root itself.", PATH)
    ]
    key_file_path: Annotated[
        Path,
        Key("Its private key, unencrypted: PKCS#1, PKCS#8 or SEC1. Other users must not be able to read it.", PATH),
    ]
    bundle_file_path: Annotated[
        Path | None, Key("The root, unless the certificate is one.", PATH, default="the certificate is the root")
    ] = None


def _workload_api(text: str) -> str:
    return text if "://" in text else f"unix://{Path(text).absolute()}"


_SOCKET: Value[str] = Value("path, unix:// or tcp:// address", _workload_api, {"type": "string", "minLength": 1})


class NestedAuthorityKeys(msgspec.Struct, frozen=True, kw_only=True):
    """A server above this one. An entry there that is marked downstream has to match this server's process."""

    server_address: Annotated[str, Key("Its host name or IP address.", HOST)]
    server_port: Annotated[int, Key("Its port of agents and administrators.", PORT)]
    workload_api_socket: Annotated[
        str, Key("The Workload API of an agent of that server, from which this server gets its SVID there.", _SOCKET)
    ]


class UpstreamAuthorityKeys(msgspec.Struct, frozen=True, kw_only=True):
    """One of three kinds of authority above this server."""

    disk: Annotated[DiskAuthorityKeys | None, Key("A CA in files.")] = None
    meshtls: Annotated[NestedAuthorityKeys | None, Key("A meshtls server of the same trust domain.")] = None
    spire: Annotated[NestedAuthorityKeys | None, Key("A SPIRE server of the same trust domain.")] = None

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


def _witness_key(text: str) -> str:
    if NoteKey.parse(text).type is not KeyType.COSIGNATURE:
        raise RequestError(f"wanted the key of a witness, which signs cosignatures, got {shown(text)}")
    return text


_URL: Value[str] = Value("http or https URL", checked_url, {"type": "string", "pattern": "^https?://"})
_WITNESS_KEY: Value[str] = Value("key, name+ID+base64", _witness_key, {"type": "string", "pattern": r"^.+\+.+\+.+$"})


class WitnessKeys(msgspec.Struct, frozen=True, kw_only=True):
    """A witness, which cosigns the log's checkpoints."""

    url: Annotated[str, Key("The URL that requests to cosign are sent below.", _URL)]
    key: Annotated[str, Key("The witness's key, as `meshtls log witness` prints it.", _WITNESS_KEY)]


class TransparencyLogKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The log of everything that the servers of this data store issue."""

    listen: Annotated[
        Address | None,
        Key("The address on which it can be read, by everybody, over HTTP.", ADDRESS, default="not over HTTP"),
    ] = None
    witnesses: Annotated[tuple[WitnessKeys, ...], Key("The witnesses that cosign it.")] = ()


def _base_url(text: str) -> str:
    """An http URL without path: clients of CRLs and OCSP refuse https (RFC 5280, section 8)."""
    try:
        parts = urlsplit(checked_url(text))
    except RequestError:
        parts = None
    if parts is None or parts.scheme != "http" or text != f"http://{parts.netloc}" or not text.isprintable():
        raise RequestError(f"wanted a URL such as http://ca.example.org:8087, got {shown_url(text)}")
    return text


_BASE_URL: Value[str] = Value("http URL without path", _base_url, {"type": "string", "pattern": "^http://[^/]+$"})


def _pointers_lead_somewhere(listen: Address | None, url: str) -> RuleProblems:
    if url and listen is None:
        yield "url", "wanted no such key without listen: nothing would answer there"


class RevocationKeys(msgspec.Struct, frozen=True, kw_only=True):
    """CRLs and OCSP for clients outside the mesh: its workloads are sent each CRL anyway."""

    listen: Annotated[
        Address | None,
        Key("The address on which everybody gets CRLs and OCSP responses over HTTP.", ADDRESS, default="not over HTTP"),
    ] = None
    url: Annotated[
        str,
        Key(
            "The URL of that listener as clients reach it. Certificates then say that their CRL and OCSP responses are"
            " there.",
            _BASE_URL,
            default="certificates say nothing of it",
        ),
    ] = ""

    RULES: ClassVar[tuple[Rule, ...]] = (_pointers_lead_somewhere,)


def _an_offline_root_is_stored(offline_root: bool, key_manager: KeyManagerKeys | None) -> RuleProblems:
    if offline_root and key_manager is not None and key_manager.memory is not None:
        yield "offline_root", "wanted key_manager disk or pkcs11: a CA that is installed has to be stored"


def _one_signs_the_ca(
    upstream_authority: UpstreamAuthorityKeys | None, offline_root: bool, key_manager: KeyManagerKeys | None
) -> RuleProblems:
    if upstream_authority is None:
        return
    if offline_root:
        yield (
            "offline_root",
            "wanted no upstream_authority beside it: only one of both signs the CA",
        )
    if key_manager is not None and key_manager.pkcs11 is not None and key_manager.pkcs11.intermediates:
        yield "key_manager.pkcs11.intermediates", "wanted false with upstream_authority: its CA's key is in a file"


def _federates_with_others(trust_domain: TrustDomain, federation: FederationKeys) -> RuleProblems:
    if any(one.trust_domain == trust_domain for one in federation.federates_with):
        yield "federation", f"wanted other trust domains in federates_with, got {trust_domain}, this server's own"


class ServerFile(msgspec.Struct, frozen=True, kw_only=True):
    """A server's file, key by key."""

    trust_domain: Annotated[TrustDomain, Key("The trust domain that this server issues for.", TRUST_DOMAIN)]
    data_dir: Annotated[Path, Key("The server's own directory: it alone may use it.", PATH)] = Path("meshtls-data")
    socket_path: Annotated[
        Path | None, Key("The administrators' Unix socket.", PATH, default="admin.sock in data_dir")
    ] = None
    bind_address: Annotated[str, Key("The address that both ports listen on.", HOST)] = "127.0.0.1"
    bind_port: Annotated[
        int, Key("The port of agents and administrators, over mutual TLS; 0 takes a free one.", PORT)
    ] = 8081
    attest_port: Annotated[
        int | None,
        Key(
            "The port of nodes that have no SVID yet; it serves nothing else.", PORT, default="the one above bind_port"
        ),
    ] = None
    admin: Annotated[
        AdminKeys | None,
        Key(
            "Where the admin interface answers: what runs here. Calls of administrators go to socket_path.",
            default="nowhere",
        ),
    ] = None
    metrics: Annotated[MetricsKeys | None, Key("Where metrics are scraped over TCP.", default="nowhere")] = None
    log_level: Annotated[str, Key("The lowest level that is logged on standard error.", LOG_LEVEL, live=True)] = "INFO"
    log_format: Annotated[LogFormat, Key("How lines of the log are written.", choice(LogFormat))] = LogFormat.CONSOLE
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
    root_ttl: Annotated[
        timedelta,
        Key(
            "How long a root, the X.509 authority that the bundle has, is valid. The next one is prepared when half of"
            " that is left, at most 30 days, and activated when a sixth is left, at most 7 days.",
            _LIFETIME,
        ),
    ] = timedelta(days=365)
    jwt_key_ttl: Annotated[
        timedelta, Key("How long a key signs JWT-SVIDs; it is replaced as a root is.", _LIFETIME)
    ] = timedelta(days=365)
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
    limits: Annotated[ListenerLimits, Key("Limits for each caller, on each of the three listeners.", live=True)] = (
        DEFAULT_LIMITS
    )
    datastore: Annotated[
        DatastoreKeys | None, Key("Where entries, agents and bundles are kept: one of these.", default="sqlite3")
    ] = None
    key_manager: Annotated[
        KeyManagerKeys | None, Key("Where the CA's keys are kept: one of these.", default="disk")
    ] = None
    upstream_authority: Annotated[
        UpstreamAuthorityKeys | None,
        Key("What signs this server's CA: one of these.", default="the server's own root"),
    ] = None
    downstream_spire_listen: Annotated[
        Address | None,
        Key(
            "The address for SPIRE servers below this one, which accept only SPIRE's server ID. meshtls servers below"
            " this one call bind_port.",
            ADDRESS,
            default="no SPIRE server below this one",
        ),
    ] = None
    offline_root: Annotated[
        bool,
        Key(
            "Whether the key of the root is elsewhere. The server makes no root then: an operator signs its CA with"
            " `meshtls ca csr`, `ca sign` and `ca install`.",
            FLAG,
        ),
    ] = False
    node_attestors: Annotated[
        NodeAttestors | None,
        Key("The ways in which nodes may attest: any of these.", default="join_token", live=True),
    ] = None

    audit_records: Annotated[
        int, Key("How many audit records are kept; older ones are removed.", number(1000, 10**9))
    ] = 1_000_000
    transparency_log: Annotated[
        TransparencyLogKeys, Key("The log of everything that the servers of this data store issue.")
    ] = TransparencyLogKeys()

    revocation: Annotated[RevocationKeys, Key("CRLs and OCSP over HTTP, for clients outside the mesh.")] = (
        RevocationKeys()
    )

    federation: Annotated[FederationKeys, Key("Bundles that are exchanged with other trust domains.")] = (
        FederationKeys()
    )

    RULES: ClassVar[tuple[Rule, ...]] = (
        _half_of_ca_ttl_is_a_life,
        _an_offline_root_is_stored,
        _one_signs_the_ca,
        _federates_with_others,
    )
