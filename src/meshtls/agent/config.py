"""Reads an agent's configuration: our YAML, or SPIRE's ``agent.conf`` in HCL, JSON or a ConfigMap.

A server is authenticated by the trust bundle that the operator gives; there is no trust on first use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from meshtls.address import Address
from meshtls.admin.keys import AdminKeys
from meshtls.agent.config_keys import AgentFile, OldHealth
from meshtls.agent.node.proof import JoinToken, NodeCertificate, NodeProof
from meshtls.agent.node.upstream import ServerAddress
from meshtls.agent.service import Endpoint
from meshtls.agent.spire_config import from_spire
from meshtls.bundle import TrustBundle
from meshtls.config.changes import Changes, check_same_domain, merged
from meshtls.config.document import Document, Section, Text, read_text
from meshtls.config.reading import Found, read, read_section
from meshtls.config.spire import either_form
from meshtls.logs import LogFormat
from meshtls.observe.metrics.keys import scrape_notices
from meshtls.observe.process_name import ProcessKind, ProcessName
from meshtls.spiffeid import TrustDomain

__all__ = ["AgentConfig", "load_config", "parse_config", "reloaded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """An agent's configuration.

    - ``bundle``: authenticates the server at first.
    - ``data_dir``: without it the agent's SVID is never stored on disk, and each start needs ``proof``.
    - ``metrics``: where metrics are scraped over TCP; None: nowhere.
    - ``notices``: keys whose effect differs from the file's value, for the operator.
    - ``file``: the file key by key, which a reload compares.
    """

    bundle: TrustBundle
    server: ServerAddress
    endpoint: Endpoint
    proof: NodeProof | None = field(repr=False)
    data_dir: Path | None
    log_level: str
    log_format: LogFormat
    admin: AdminKeys | None
    metrics: Address | None
    notices: tuple[str, ...]
    file: AgentFile = field(repr=False, compare=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files named in it that a reload reads again."""
        pop = self.file.x509pop
        return (pop.certificate_path.path, pop.private_key_path.path) if pop else ()

    @property
    def trust_domain(self) -> TrustDomain:
        return self.bundle.trust_domain

    @property
    def process(self) -> ProcessName:
        """Which agent runs with this file."""
        return ProcessName(ProcessKind.AGENT, str(self.endpoint.socket_path), str(self.trust_domain))


def load_config(path: Path) -> AgentConfig:
    """The configuration in this file. Raises ConfigError that names file, line and key."""
    return parse_config(str(path), read_text(path))


def parse_config(file: str, text: str) -> AgentConfig:
    """The configuration in this text; ``file`` is its name in messages.

    Files that it names are read now; a relative path is relative to the working directory.
    """
    document, of_spire = either_form(file, text, "agent")
    found = read(from_spire(document) if of_spire else _with_health_as_address(document), AgentFile)
    said = found.value
    config = _config(said, tuple(document.notices))
    notices = (
        *config.notices,
        *_needs_a_token_each_time(found, config.data_dir),
        *scrape_notices(said.metrics),
        *config.bundle.unusable,
    )
    return replace(config, notices=notices)


def reloaded(running: AgentConfig, wanted: AgentConfig) -> tuple[AgentConfig, Changes]:
    """The configuration of a running agent once its file says ``wanted``, and which keys differ. Raises ConfigError."""
    check_same_domain(running.trust_domain, wanted.trust_domain)
    file, changes = merged(running.file, wanted.file)
    return _config(file, wanted.notices), changes


def _config(said: AgentFile, notices: tuple[str, ...]) -> AgentConfig:
    bundle = said.trust_bundle_path.bundle(said.trust_domain)
    data_dir = None if said.key_manager and said.key_manager.memory else said.data_dir
    # By default the one next to server_port, as the server's own default is.
    attest_port = said.attest_port or said.server_port + (1 if said.server_port < 65535 else -1)
    return AgentConfig(
        bundle=bundle,
        server=ServerAddress(said.server_address, said.server_port, attest_port),
        endpoint=Endpoint(
            said.socket_path,
            said.workload_attestors,
            (said.health.host, said.health.port) if said.health else None,
            said.workload_size_limit,
            said.limits,
        ),
        proof=_proof(said),
        data_dir=data_dir,
        log_level=said.log_level,
        log_format=said.log_format,
        admin=said.admin,
        metrics=said.metrics.listen if said.metrics else None,
        notices=notices,
        file=said,
    )


def _proof(said: AgentFile) -> NodeProof | None:
    if said.x509pop:
        above = said.x509pop.intermediates_path.chain if said.x509pop.intermediates_path else ()
        return NodeCertificate((*said.x509pop.certificate_path.chain, *above), said.x509pop.private_key_path.key)
    token = said.join_token or said.join_token_file
    return JoinToken(token) if token else None


def _needs_a_token_each_time(found: Found[AgentFile], data_dir: Path | None) -> Iterator[str]:
    said = found.value
    if data_dir is None and (said.join_token or said.join_token_file):
        where = found.where("key_manager.memory")
        yield f"{where}: a join token is good for one attestation: each restart of this agent needs a new one"


def _with_health_as_address(document: Document) -> Document:
    """The same file with the former keys of ``health``, an address and a port, joined into one address."""
    health = document.root.keys.get("health")
    if not isinstance(health, Section):
        return document
    keys = dict(document.root.keys)
    found = read_section(document, health, OldHealth)
    if found.complete:
        address = str(Address(found.value.address, found.value.port))
        keys["health"] = Text(health.place, address)
        document.notice(health.place, f"this is one address now, such as {address}; the old form still works")
    else:
        del keys["health"]
    return Document(Section(document.root.place, keys), document.problems, document.notices)
