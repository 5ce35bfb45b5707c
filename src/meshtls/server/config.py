"""Reads a server's configuration: our YAML, SPIRE's ``server.conf``, and that file in its ConfigMap.

All three become one tree of sections, and the same code takes the settings out of it. Ours is flat, with ``datastore``,
``key_manager`` and ``node_attestors`` beside the server's keys; SPIRE's has a block ``server`` and a block ``plugins``.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import yaml

from meshtls.ca.keys.manager import KeyAlgorithm
from meshtls.ca.profile import CaSubject
from meshtls.errors import ConfigError
from meshtls.rpc.limits import read_limits
from meshtls.scalars import log_level, log_level_notice, port, word
from meshtls.server.hcl import looks_like_hcl, read_hcl
from meshtls.server.plugins import Plugins, our_plugins, spire_plugins
from meshtls.server.settings import DEFAULT_LIMITS, ServerConfig, country, key_type, lifetime, name
from meshtls.spiffeid import TrustDomain
from meshtls.yaml_reader import Section, as_section, composed, read_yaml

__all__ = ["load_config", "parse_config"]

_DEFAULT_PORT = 8081


def load_config(path: Path) -> ServerConfig:
    """The configuration in this file. Raises ConfigError that names file, line and key."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: wanted a configuration file to read: {error}") from error
    return parse_config(str(path), text)


def parse_config(file: str, text: str) -> ServerConfig:
    """The same of a text; ``file`` is its name in messages. Relative paths are as the process sees them."""
    if looks_like_hcl(text):
        return _spire(as_section(file, read_hcl(file, text)))
    wrapped = _config_map(text)
    if wrapped is not None:
        return _spire(as_section(file, read_hcl(file, wrapped.value, _first_line(wrapped))))
    top = read_yaml(file, text)
    config = _server(top, our_plugins(top))
    top.finish()
    return config


def _spire(top: Section) -> ServerConfig:
    server = top.section("server")
    if server is None:
        top.complain("server", "this block is required, and it is missing")
    config = _server(server, spire_plugins(top))
    server.finish()
    top.finish()
    return config


def _server(section: Section, plugins: Plugins) -> ServerConfig:
    data_dir = section.optional("data_dir", _path, Path("meshtls-data"))
    bind_port = section.optional("bind_port", port, _DEFAULT_PORT)
    join_token, x509pop = plugins.attestors()
    key_place, keys_dir, key_notices = plugins.keys(data_dir)
    config = ServerConfig(
        trust_domain=section.required("trust_domain", TrustDomain.parse),
        data_dir=data_dir,
        socket_path=section.optional("socket_path", _path, data_dir / "admin.sock"),
        bind_address=section.optional("bind_address", word, "127.0.0.1"),
        bind_port=bind_port,
        attest_port=section.optional("attest_port", port, _beside(bind_port)),
        log_level=section.optional("log_level", log_level, "INFO"),
        ca_subject=_ca_subject(section),
        ca_key_type=section.optional("ca_key_type", key_type, KeyAlgorithm.P256),
        jwt_key_type=section.optional("jwt_key_type", key_type, KeyAlgorithm.P256),
        ca_ttl=section.optional("ca_ttl", lifetime, timedelta(hours=24)),
        agent_ttl=section.optional("agent_ttl", lifetime, timedelta(hours=1)),
        default_x509_svid_ttl=section.optional("default_x509_svid_ttl", lifetime, timedelta(hours=1)),
        default_jwt_svid_ttl=section.optional("default_jwt_svid_ttl", lifetime, timedelta(minutes=5)),
        datastore=plugins.datastore(data_dir),
        limits=read_limits(section.section("limits"), DEFAULT_LIMITS),
        key_place=key_place,
        keys_dir=keys_dir,
        join_token=join_token,
        x509pop=x509pop,
        notices=(*section.notices("log_level", log_level_notice), *plugins.notices, *key_notices),
    )
    plugins.finish()
    return _within_ca_ttl(section, config)


def _ca_subject(section: Section) -> CaSubject:
    subject = section.section("ca_subject")
    if subject is None:
        return CaSubject()
    read = CaSubject(
        subject.texts("country", country) if subject.has("country") else (),
        subject.texts("organization", name) if subject.has("organization") else (),
        subject.optional("common_name", name, ""),
    )
    subject.finish()
    return read


def _within_ca_ttl(section: Section, config: ServerConfig) -> ServerConfig:
    """With no life of what is signed above half of the intermediate's, at which it is renewed: so none is cut short."""
    longest = _whole_seconds(config.ca_ttl / 2)
    if not longest:
        section.complain("ca_ttl", f"wanted at least 2s, got {config.ca_ttl}")
    lives = {"agent_ttl": config.agent_ttl, "default_x509_svid_ttl": config.default_x509_svid_ttl}
    notices = [
        f"{section.where('ca_ttl')}: {config.ca_ttl} is less than twice {key} ({life}), which is taken as {longest}"
        for key, life in lives.items()
        if life > longest
    ]
    return replace(
        config,
        agent_ttl=min(config.agent_ttl, longest),
        default_x509_svid_ttl=min(config.default_x509_svid_ttl, longest),
        notices=(*config.notices, *notices),
    )


def _whole_seconds(time: timedelta) -> timedelta:
    return timedelta(seconds=time // timedelta(seconds=1))


def _beside(bind_port: int) -> int:
    return bind_port + (1 if bind_port < 65535 else -1) if bind_port else 0


def _path(text: str) -> Path:
    return Path(word(text))


def _config_map(text: str) -> yaml.ScalarNode | None:
    """The ``server.conf`` in a Kubernetes ConfigMap; None for any other document."""
    try:
        document = composed(text)
    except yaml.YAMLError:
        return None  # the reader of our own form says what is wrong with it
    if not isinstance(document, yaml.MappingNode):
        return None
    members = {key.value: value for key, value in document.value if isinstance(key, yaml.ScalarNode)}
    kind, data = members.get("kind"), members.get("data")
    if not isinstance(kind, yaml.ScalarNode) or kind.value != "ConfigMap" or not isinstance(data, yaml.MappingNode):
        return None
    files = {key.value: value for key, value in data.value if isinstance(value, yaml.ScalarNode)}
    found: yaml.ScalarNode | None = files.get("server.conf")
    return found


def _first_line(scalar: yaml.ScalarNode) -> int:
    # A block scalar's text begins below the line of its '|'.
    return int(scalar.start_mark.line) + (2 if scalar.style in ("|", ">") else 1)
