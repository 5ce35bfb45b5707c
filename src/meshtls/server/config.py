"""Reads a server's configuration: our YAML, or SPIRE's ``server.conf`` in HCL, JSON or a ConfigMap.

Ours is flat, with ``datastore``, ``key_manager`` and ``node_attestors`` beside the server's keys (``config_keys``).
SPIRE's form is converted to ours first (``spire_config``), so that both are read by the same code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from sqlalchemy import URL

from meshtls.address import Address
from meshtls.ca.profile import CaSubject
from meshtls.config.changes import Changes, check_same_domain, merged
from meshtls.config.document import Document, Section, read_text
from meshtls.config.reading import Found, read
from meshtls.config.spire import either_form
from meshtls.observe.metrics.keys import scrape_notices
from meshtls.server.config_keys import ServerFile
from meshtls.server.settings import (
    BundleEndpoint,
    ConfiguredRelation,
    DiskUpstream,
    KeyPlace,
    NestedUpstream,
    ServerConfig,
    TokenConfig,
    WitnessConfig,
    X509PopConfig,
)
from meshtls.server.spire_config import NOT_YET, from_spire
from meshtls.server.store.address import postgres_url, sqlite_url
from meshtls.serverapi.federation import Profile, Relation

__all__ = ["load_config", "parse_config", "reloaded"]


def load_config(path: Path) -> ServerConfig:
    """The configuration in this file. Raises ConfigError, which names file, line and key."""
    return parse_config(str(path), read_text(path))


def parse_config(file: str, text: str) -> ServerConfig:
    """The configuration in this text; ``file`` names it in messages. Relative paths are those of the process."""
    document, of_spire = either_form(file, text, "server")
    found = read(from_spire(document) if of_spire else _without_attestors_to_come(document), ServerFile)
    config = _config(found.value, tuple(document.notices))
    return replace(
        config,
        notices=(
            *config.notices,
            *_shortened(found),
            *_moved_keys(found, config.keys_dir),
            *scrape_notices(found.value.metrics),
        ),
    )


def reloaded(running: ServerConfig, wanted: ServerConfig) -> tuple[ServerConfig, Changes]:
    """The configuration of a running server after a reload to ``wanted``, and the changed keys. Raises ConfigError."""
    check_same_domain(running.trust_domain, wanted.trust_domain)
    file, changes = merged(running.file, wanted.file)
    return _config(file, wanted.notices), changes


def _config(said: ServerFile, notices: tuple[str, ...]) -> ServerConfig:
    longest = _longest(said)
    key_place, keys_dir, token = _keys(said)
    return ServerConfig(
        trust_domain=said.trust_domain,
        data_dir=said.data_dir,
        socket_path=said.socket_path or said.data_dir / "admin.sock",
        bind_address=said.bind_address,
        bind_port=said.bind_port,
        attest_port=_beside(said.bind_port) if said.attest_port is None else said.attest_port,
        log_level=said.log_level,
        log_format=said.log_format,
        admin=said.admin,
        metrics=said.metrics.listen if said.metrics else None,
        ca_subject=_ca_subject(said),
        ca_key_type=said.ca_key_type,
        jwt_key_type=said.jwt_key_type,
        ca_ttl=said.ca_ttl,
        root_ttl=said.root_ttl,
        jwt_key_ttl=said.jwt_key_ttl,
        agent_ttl=min(said.agent_ttl, longest),
        default_x509_svid_ttl=min(said.default_x509_svid_ttl, longest),
        default_jwt_svid_ttl=said.default_jwt_svid_ttl,
        datastore=_datastore(said),
        limits=said.limits,
        key_place=key_place,
        keys_dir=keys_dir,
        token=token,
        offline_root=said.offline_root,
        audit_records=said.audit_records,
        log_listen=said.transparency_log.listen,
        log_witnesses=tuple(WitnessConfig(one.url, one.key) for one in said.transparency_log.witnesses),
        revocation_listen=said.revocation.listen,
        revocation_url=said.revocation.url,
        upstream=_upstream(said),
        downstream_spire_listen=said.downstream_spire_listen,
        bundle_endpoint=_bundle_endpoint(said),
        federates_with=tuple(_relations(said)),
        join_token=said.node_attestors is None or said.node_attestors.join_token is not None,
        x509pop=_x509pop(said),
        notices=notices,
        file=said,
    )


def _without_attestors_to_come(document: Document) -> Document:
    attestors = document.root.keys.get("node_attestors")
    if not isinstance(attestors, Section) or not attestors.keys.keys() & set(NOT_YET):
        return document
    for name in NOT_YET:
        if name in attestors.keys:
            document.notice(attestors.where(name), "recognised but not supported yet: no node can attest with it")
    left = {name: node for name, node in attestors.keys.items() if name not in NOT_YET}
    keys = {**document.root.keys, "node_attestors": Section(attestors.place, left)}
    return Document(Section(document.root.place, keys), document.problems, document.notices)


def _ca_subject(said: ServerFile) -> CaSubject:
    named = said.ca_subject
    return CaSubject(named.country, named.organization, named.common_name) if named else CaSubject()


def _datastore(said: ServerFile) -> URL:
    chosen = said.datastore
    if chosen and chosen.postgres:
        return postgres_url(chosen.postgres.connection_string)
    path = chosen.sqlite3.connection_string if chosen and chosen.sqlite3 else ""
    return sqlite_url(path or said.data_dir / "datastore.sqlite3")


def _keys(said: ServerFile) -> tuple[KeyPlace, Path, TokenConfig | None]:
    chosen = said.key_manager
    if chosen and (pkcs11 := chosen.pkcs11):
        token = TokenConfig(
            pkcs11.module,
            pkcs11.token_label,
            pkcs11.pin_file,
            pkcs11.pin_env,
            pkcs11.intermediates,
            pkcs11.jwt_keys,
        )
        return KeyPlace.PKCS11, pkcs11.keys_path or said.data_dir / "keys", token
    place = KeyPlace.MEMORY if chosen and chosen.memory else KeyPlace.DISK
    told = chosen.disk.keys_path if chosen and chosen.disk else None
    return place, _directory_for(told) if told else said.data_dir / "keys", None


def _upstream(said: ServerFile) -> DiskUpstream | NestedUpstream | None:
    chosen = said.upstream_authority
    if chosen is None:
        return None
    if chosen.disk:
        return DiskUpstream(chosen.disk.cert_file_path, chosen.disk.key_file_path, chosen.disk.bundle_file_path)
    if above := chosen.spire or chosen.meshtls:
        is_spire = chosen.spire is not None
        return NestedUpstream(above.server_address, above.server_port, above.workload_api_socket, is_spire)
    return None


def _moved_keys(found: Found[ServerFile], directory: Path) -> Iterator[str]:
    chosen = found.value.key_manager
    told = chosen.disk.keys_path if chosen and chosen.disk else None
    if told and directory != told:
        where = found.where("key_manager.disk.keys_path")
        yield f"{where}: {told} is the name of a file; keys are kept in the directory {directory}"


def _directory_for(keys_path: Path) -> Path:
    """The directory for our keys beside the one file in which SPIRE keeps its keys.

    The file itself stays SPIRE's, and its directory, usually the data directory, holds other files and is locked
    already.
    """
    named_as_file = bool(keys_path.suffix) and not keys_path.is_dir()
    return keys_path.with_name(f"{keys_path.name}.d") if named_as_file or keys_path.is_file() else keys_path


def _bundle_endpoint(said: ServerFile) -> BundleEndpoint | None:
    chosen = said.federation.bundle_endpoint
    if chosen is None:
        return None
    listen, hint = Address(chosen.address, chosen.port), int(chosen.refresh_hint.total_seconds())
    if chosen.https_web is None:
        return BundleEndpoint(listen, hint)
    return BundleEndpoint(listen, hint, chosen.https_web.cert_file_path, chosen.https_web.key_file_path)


def _relations(said: ServerFile) -> Iterator[ConfiguredRelation]:
    for one in said.federation.federates_with:
        endpoint_id = one.https_spiffe.endpoint_spiffe_id if one.https_spiffe else None
        profile = Profile.HTTPS_SPIFFE if one.https_spiffe else Profile.HTTPS_WEB
        relation = Relation(
            trust_domain=one.trust_domain, url=one.bundle_endpoint_url, profile=profile, endpoint_id=endpoint_id
        )
        yield ConfiguredRelation(relation, one.trust_domain_bundle_path)


def _x509pop(said: ServerFile) -> X509PopConfig | None:
    chosen = said.node_attestors.x509pop if said.node_attestors else None
    if chosen is None:
        return None
    first = (chosen.ca_bundle_path,) if chosen.ca_bundle_path else ()
    return X509PopConfig((*first, *chosen.ca_bundle_paths))


def _longest(said: ServerFile) -> timedelta:
    """The longest TTL, in whole seconds, that the intermediate never shortens; it is renewed at half of its life."""
    return timedelta(seconds=said.ca_ttl / 2 // timedelta(seconds=1))


def _shortened(found: Found[ServerFile]) -> Iterator[str]:
    said, longest = found.value, _longest(found.value)
    for key, life in (("agent_ttl", said.agent_ttl), ("default_x509_svid_ttl", said.default_x509_svid_ttl)):
        if life > longest:
            place = found.where("ca_ttl")
            yield f"{place}: {said.ca_ttl} is less than twice {key} ({life}), which is reduced to {longest}"


def _beside(bind_port: int) -> int:
    return bind_port + (1 if bind_port < 65535 else -1) if bind_port else 0
