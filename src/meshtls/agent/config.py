"""Reads an agent's configuration: one YAML file, every complaint with file, line and key.

The names are SPIRE's where it has the same thing. A server is believed by the trust bundle that the operator gives:
there is no way to believe whoever answers first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from meshtls.agent.attest.attestor import ATTESTORS
from meshtls.agent.attest.digests import DEFAULT_SIZE_LIMIT
from meshtls.agent.node.proof import JoinToken, NodeCertificate, NodeProof
from meshtls.agent.node.upstream import ServerAddress
from meshtls.agent.service import Endpoint
from meshtls.bundle import TrustBundle
from meshtls.ca.keys.files import read_secret
from meshtls.errors import BundleError, ConfigError, RequestError
from meshtls.rpc.limits import DEFAULT_LIMITS, read_limits
from meshtls.scalars import log_level, log_level_notice, port, whole_number, word
from meshtls.spiffeid import TrustDomain
from meshtls.svid.x509 import PrivateKey
from meshtls.yaml_reader import Section, read_yaml

__all__ = ["AgentConfig", "load_config", "parse_config"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Everything that an agent runs by. ``bundle`` is what the server is believed by at first; without ``data_dir`` the
    agent's SVID is never on disk and each start needs ``proof``. ``notices`` are what the file says that has another
    effect than it says, in words for the operator.
    """

    bundle: TrustBundle
    server: ServerAddress
    endpoint: Endpoint
    proof: NodeProof | None = field(repr=False)
    data_dir: Path | None = None
    log_level: str = "INFO"
    notices: tuple[str, ...] = ()

    @property
    def trust_domain(self) -> TrustDomain:
        return self.bundle.trust_domain


def load_config(path: Path) -> AgentConfig:
    """The configuration in this file. Raises ConfigError that names file, line and key."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: wanted a configuration file to read: {error}") from error
    return parse_config(str(path), text)


def parse_config(file: str, text: str) -> AgentConfig:
    """The same of a text; ``file`` is its name in messages. Files that it names are read now, relative paths as the
    process sees them.
    """
    top = read_yaml(file, text)
    trust_domain = top.required("trust_domain", TrustDomain.parse)
    data_dir = top.optional("data_dir", _path, None)
    bundle = _bundle(top, trust_domain)
    config = AgentConfig(
        bundle=bundle,
        server=_server(top),
        endpoint=_endpoint(top),
        proof=_proof(top, data_dir),
        data_dir=data_dir,
        log_level=top.optional("log_level", log_level, "INFO"),
        notices=(
            *top.notices("log_level", log_level_notice),
            *top.notices("workload_size_limit", _size_limit_notice),
            *bundle.unusable,
        ),
    )
    top.finish()
    return config


def _server(top: Section) -> ServerAddress:
    server_port = top.optional("server_port", _port, 8081)
    attest_port = top.optional("attest_port", _port, server_port + 1)
    return ServerAddress(top.required("server_address", word), server_port, attest_port)


def _endpoint(top: Section) -> Endpoint:
    attestors = top.texts("workload_attestors", _attestor) if top.has("workload_attestors") else ATTESTORS
    health = None
    section = top.section("health")
    if section is not None:
        health = (section.optional("address", word, "127.0.0.1"), section.required("port", _port))
        section.finish()
    size_limit = top.optional("workload_size_limit", _size_limit, DEFAULT_SIZE_LIMIT)
    limits = read_limits(top.section("limits"), DEFAULT_LIMITS)
    return Endpoint(top.required("socket_path", _path), attestors, health, size_limit, limits)


def _bundle(top: Section, trust_domain: TrustDomain) -> TrustBundle:
    file = top.required("trust_bundle_path", _path)
    try:
        content = file.read_bytes()
        if content.lstrip().startswith(b"{"):
            bundle = TrustBundle.from_jwks(trust_domain, content)
        else:
            bundle = TrustBundle.from_pem(trust_domain, content)
    except (OSError, BundleError) as error:
        top.complain("trust_bundle_path", f"{file}: wanted PEM certificates or a SPIFFE bundle: {error}")
    if not bundle.x509_authorities:
        top.complain("trust_bundle_path", f"{file}: wanted at least one X.509 authority, got none")
    return bundle


def _proof(top: Section, data_dir: Path | None) -> NodeProof | None:
    token = top.optional("join_token", word, None)
    section = top.section("x509pop")
    if token and section:
        top.complain("x509pop", "wanted one way to attest, got join_token and x509pop")
    if section:
        return _certificate(section)
    if token is None and data_dir is None:
        top.complain("join_token", "wanted join_token, x509pop, or a data_dir with the SVID of an earlier attestation")
    return JoinToken(token) if token else None


def _certificate(section: Section) -> NodeCertificate:
    chain = section.required("certificate_path", _chain)
    key = section.required("private_key_path", _key)
    section.finish()
    if chain[0].public_key() != key.public_key():
        section.complain("private_key_path", "this key does not belong to the certificate")
    return NodeCertificate(chain, key)


def _chain(text: str) -> tuple[x509.Certificate, ...]:
    try:
        chain = tuple(x509.load_pem_x509_certificates(_path(text).read_bytes()))
        chain[0].public_key()  # decoded on first use, which has to be here
    except (OSError, ValueError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise RequestError(f"{text}: wanted certificates in PEM, leaf first: {error}") from error
    return chain


def _key(text: str) -> PrivateKey:
    try:
        key = load_pem_private_key(read_secret(_path(text)), None)
    except (ConfigError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RequestError(f"{text}: wanted a private key in PEM, without a password: {error}") from error
    if not isinstance(key, PrivateKey):
        raise RequestError(f"{text}: wanted an EC or RSA key, got {type(key).__name__}")
    return key


def _path(text: str) -> Path:
    return Path(word(text))


def _port(text: str) -> int:
    number = port(text)
    if not number:
        raise RequestError("wanted a port, 1 to 65535, got '0'")
    return number


def _size_limit(text: str) -> int:
    """Bytes, as SPIRE's: 0 is for no limit, a negative number for no hash at all."""
    number = whole_number(0, 2**53)
    return -number(text[1:]) if text.startswith("-") else number(text)


def _size_limit_notice(text: str) -> str:
    return "there is no limit: programs of any size are read to their end" if _size_limit(text) == 0 else ""


def _attestor(text: str) -> str:
    if text not in ATTESTORS:
        raise RequestError(f"wanted one of {', '.join(ATTESTORS)}, got {text!r}")
    return text
