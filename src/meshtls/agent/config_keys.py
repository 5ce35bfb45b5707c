"""The keys of an agent's file. Where SPIRE has the same thing, the name is SPIRE's.

Files that the file names are read with it: a problem with one of them is a problem of its key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from meshtls.address import Address
from meshtls.admin.keys import AdminKeys
from meshtls.agent.attest.attestor import ATTESTORS
from meshtls.agent.attest.digests import DEFAULT_SIZE_LIMIT
from meshtls.bundle import TrustBundle
from meshtls.config.keys import (
    ADDRESS,
    HOST,
    LISTENING_PORT,
    LOG_LEVEL,
    PATH,
    TEXT,
    TRUST_DOMAIN,
    Key,
    Value,
    choice,
)
from meshtls.config.reading import Found, Rule, RuleProblems
from meshtls.errors import BundleError, ConfigError, RequestError
from meshtls.logs import LogFormat
from meshtls.observe.metrics.keys import MetricsKeys
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.private_files import read_secret
from meshtls.regular_files import read_regular
from meshtls.rpc.limits import DEFAULT_LIMITS, ListenerLimits
from meshtls.scalars import shown, whole_number, word
from meshtls.spiffeid import TrustDomain
from meshtls.svid.x509 import PrivateKey

__all__ = ["AgentFile", "BundleFile", "OldHealth"]


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A trust bundle's file, as it was when the configuration was read."""

    path: Path
    content: bytes = field(repr=False)

    def bundle(self, trust_domain: TrustDomain) -> TrustBundle:
        """The bundle in the file. Raises RequestError if it is not a bundle with an X.509 authority."""
        try:
            if self.content.lstrip().startswith(b"{"):
                bundle = TrustBundle.from_jwks(trust_domain, self.content)
            else:
                bundle = TrustBundle.from_pem(trust_domain, self.content)
        except BundleError as error:
            raise RequestError(f"{self.path}: wanted PEM certificates or a SPIFFE bundle: {error}") from error
        if not bundle.x509_authorities:
            raise RequestError(f"{self.path}: wanted at least one X.509 authority, got none")
        return bundle


def _bundle_file(text: str) -> BundleFile:
    path = Path(word(text))
    try:
        return BundleFile(path, read_regular(path))
    except OSError as error:
        raise RequestError(f"{path}: wanted PEM certificates or a SPIFFE bundle: {error}") from error


@dataclass(frozen=True, slots=True)
class Certificates:
    """The certificates of a file, at least one."""

    path: Path
    chain: tuple[x509.Certificate, ...]


def _certificates(text: str) -> Certificates:
    try:
        chain = tuple(x509.load_pem_x509_certificates(read_regular(Path(word(text)))))
        chain[0].public_key()  # cryptography decodes it on first use, and an error has to come here
    except (OSError, *PARSE_ERRORS) as error:
        raise RequestError(f"{text}: wanted certificates in PEM, leaf first: {error}") from error
    return Certificates(Path(text), chain)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A private key, and its PEM, by which two keys are compared."""

    path: Path
    key: PrivateKey = field(repr=False, compare=False)
    pem: bytes = field(repr=False)


def _private_key(text: str) -> KeyFile:
    try:
        pem = read_secret(Path(word(text)), "a private key")
        key = load_pem_private_key(pem, None)
    except (ConfigError, *PARSE_ERRORS) as error:
        raise RequestError(f"{text}: wanted a private key in PEM, without a password: {error}") from error
    if not isinstance(key, PrivateKey):
        raise RequestError(f"{text}: wanted an EC or RSA key, got {type(key).__name__}")
    return KeyFile(Path(text), key, pem)


def _token_in(text: str) -> str:
    try:
        token = read_secret(Path(word(text)), "a join token").decode("ascii").strip()
    except (ConfigError, UnicodeDecodeError) as error:
        raise RequestError(f"{text}: wanted a file with a join token: {error}") from error
    if not token:
        raise RequestError(f"{text}: wanted a file with a join token, got an empty one")
    return token


def _attestor(text: str) -> str:
    if text not in ATTESTORS:
        raise RequestError(f"wanted one of {', '.join(ATTESTORS)}, got {shown(text)}")
    return text


def _size_limit(text: str) -> int:
    """Bytes, as in SPIRE: 0 for no limit, a negative number for no digests at all."""
    number = whole_number(0, 2**53)
    return -number(text[1:]) if text.startswith("-") else number(text)


def _size_limit_notice(text: str) -> str:
    return "there is no limit: programs of any size are read to their end" if _size_limit(text) == 0 else ""


_SIZE_LIMIT: Value[int] = Value(
    "number of bytes",
    _size_limit,
    {"type": "integer", "minimum": -(2**53), "maximum": 2**53},
    notice=_size_limit_notice,
)
_FILE_JSON = {"type": "string", "minLength": 1}
_BUNDLE: Value[BundleFile] = Value("path", _bundle_file, _FILE_JSON)
_CERTIFICATES: Value[Certificates] = Value("path", _certificates, _FILE_JSON)
_PRIVATE_KEY: Value[KeyFile] = Value("path", _private_key, _FILE_JSON)
_TOKEN_FILE: Value[str] = Value("path", _token_in, _FILE_JSON)
_ATTESTOR: Value[str] = Value("unix, docker or k8s", _attestor, {"enum": list(ATTESTORS)})


def _the_key_is_the_certificates(certificate_path: Certificates, private_key_path: KeyFile) -> RuleProblems:
    if certificate_path.chain[0].public_key() != private_key_path.key.public_key():
        yield "private_key_path", "this key does not belong to the certificate"


class X509Pop(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate that the node has from elsewhere, as its proof."""

    certificate_path: Annotated[Certificates, Key("The certificates in PEM, leaf first.", _CERTIFICATES)]
    private_key_path: Annotated[KeyFile, Key("The leaf's key in PEM; only the agent's user may read it.", _PRIVATE_KEY)]
    intermediates_path: Annotated[
        Certificates | None, Key("More certificates above the leaf, in PEM.", _CERTIFICATES, default="none")
    ] = None

    RULES: ClassVar[tuple[Rule, ...]] = (_the_key_is_the_certificates,)


class OldHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The former form of ``health``, before it was one host:port."""

    address: Annotated[str, Key("", TEXT)] = "127.0.0.1"
    port: Annotated[int, Key("", LISTENING_PORT)]


class Nothing(msgspec.Struct, frozen=True, kw_only=True):
    """A choice that has no keys of its own."""


def _one_place(found: Found[KeyManager]) -> RuleProblems:
    given = tuple(found.section.keys)
    if len(given) != 1:
        yield "", f"wanted one of disk, memory, got {', '.join(given) or 'none'}"


class KeyManager(msgspec.Struct, frozen=True, kw_only=True):
    """One of two places for the agent's own SVID and key."""

    disk: Annotated[Nothing | None, Key("In data_dir, in a file that only the agent's user can read.")] = None
    memory: Annotated[Nothing | None, Key("Nowhere: each start attests the node anew.")] = None

    RULES: ClassVar[tuple[Rule, ...]] = (_one_place,)


def _the_bundle_is_one(trust_domain: TrustDomain, trust_bundle_path: BundleFile) -> RuleProblems:
    try:
        trust_bundle_path.bundle(trust_domain)
    except RequestError as error:
        yield "trust_bundle_path", str(error)


def _one_proof(found: Found[AgentFile]) -> RuleProblems:
    given = [one for one in ("join_token", "join_token_file", "x509pop") if one in found.given]
    for other in given[1:]:
        yield other, f"wanted one way to attest, got {' and '.join(given)}"
    keys: KeyManager | None = found.values.get("key_manager")
    in_memory = keys is not None and keys.disk is None
    # A data directory that is named may have the SVID of an earlier attestation.
    if not given and ("data_dir" not in found.given or in_memory):
        yield (
            "join_token",
            "wanted join_token, x509pop, or a data_dir with the SVID of an earlier attestation",
        )


class AgentFile(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's file, key by key."""

    trust_domain: Annotated[TrustDomain, Key("The trust domain of this node.", TRUST_DOMAIN)]
    data_dir: Annotated[
        Path,
        Key(
            "The agent's own directory. It keeps its SVID there, and a restart needs no new attestation; it alone may"
            " use it.",
            PATH,
        ),
    ] = Path("meshtls-agent-data")
    key_manager: Annotated[
        KeyManager | None, Key("Where the agent's SVID and its key are kept: one of these.", default="disk")
    ] = None
    server_address: Annotated[str, Key("The server's host name or IP address.", HOST)]
    server_port: Annotated[int, Key("The server's port for agents.", LISTENING_PORT)] = 8081
    attest_port: Annotated[
        int | None,
        Key("The server's port for nodes that have no SVID yet.", LISTENING_PORT, default="the one above server_port"),
    ] = None
    trust_bundle_path: Annotated[
        BundleFile,
        Key(
            "The trust domain's bundle, in PEM or as a SPIFFE bundle document; it authenticates the server at first.",
            _BUNDLE,
        ),
    ]
    socket_path: Annotated[Path, Key("Where the Workload API and SDS are served.", PATH)]
    join_token: Annotated[
        str | None,
        Key(
            "A token of `meshtls token generate`, good for one attestation.",
            TEXT,
            default="none",
            live=True,
            secret=True,
        ),
    ] = None
    join_token_file: Annotated[
        str | None,
        Key(
            "A file with such a token; only the agent's user may read it.",
            _TOKEN_FILE,
            default="none",
            live=True,
            secret=True,
        ),
    ] = None
    x509pop: Annotated[
        X509Pop | None,
        Key("A certificate that the node has from elsewhere, as its proof.", default="none", live=True),
    ] = None
    workload_attestors: Annotated[
        tuple[str, ...], Key("The types of selectors that attestation determines for a caller.", _ATTESTOR)
    ] = ATTESTORS
    workload_size_limit: Annotated[
        int,
        Key(
            "Bytes of a program up to which its SHA-256 is a selector; 0 is for no limit, a negative number for none at"
            " all.",
            _SIZE_LIMIT,
        ),
    ] = DEFAULT_SIZE_LIMIT
    limits: Annotated[ListenerLimits, Key("Limits for each caller of the socket.", live=True)] = DEFAULT_LIMITS
    health: Annotated[
        Address | None,
        Key(
            "Where /live and /ready are answered, in plaintext; /ready also has the trust domain and socket_path.",
            ADDRESS,
            default="nowhere",
        ),
    ] = None
    admin: Annotated[AdminKeys | None, Key("Where the admin interface answers.", default="nowhere")] = None
    metrics: Annotated[MetricsKeys | None, Key("Where metrics are scraped over TCP.", default="nowhere")] = None
    log_level: Annotated[str, Key("The lowest level that is logged on standard error.", LOG_LEVEL, live=True)] = "INFO"
    log_format: Annotated[LogFormat, Key("How lines of the log are written.", choice(LogFormat))] = LogFormat.CONSOLE

    RULES: ClassVar[tuple[Rule, ...]] = (_the_bundle_is_one, _one_proof)
