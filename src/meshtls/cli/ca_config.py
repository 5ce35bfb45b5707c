"""The configuration of ``meshtls ca serve``: its keys, and the reader of its YAML file.

A key that the server or the agent has, too, has the same name here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec

from meshtls.config.changes import Changes, check_same_domain, merged
from meshtls.config.document import read_text, yaml_document
from meshtls.config.keys import DURATION, LOG_LEVEL, PATH, TRUST_DOMAIN, Key, Value, choice, number
from meshtls.config.reading import Found, Rule, RuleProblems, read
from meshtls.logs import LogFormat
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["CaConfig", "CaFile", "load_ca_config", "parse_ca_config", "reloaded"]

_ID: Value[SpiffeId] = Value(
    "SPIFFE ID with a path", SpiffeId.parse, {"type": "string", "pattern": "^spiffe://[^/]+/."}
)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The SPIFFE ID of a local user's programs."""

    uid: Annotated[int, Key("The local user.", number(0, 2**32 - 2))]
    spiffe_id: Annotated[SpiffeId, Key("The ID of the user's programs, in the trust domain of this CA.", _ID)]


def _uids_are_unique_and_ids_in_the_trust_domain(found: Found[CaFile]) -> RuleProblems:
    seen = set()
    for place, uid in found.every("identities.uid"):
        if uid in seen:
            yield place, f"wanted each uid once, got {uid} again"
        seen.add(uid)
    trust_domain = found.values.get("trust_domain")
    for place, spiffe_id in found.every("identities.spiffe_id"):
        if trust_domain and not (spiffe_id.member_of(trust_domain) and spiffe_id.path):
            yield place, f"wanted an ID with a path in trust domain {trust_domain}, got {spiffe_id}"


def _identities_are_not_empty(identities: tuple[Identity, ...]) -> RuleProblems:
    if not identities:
        yield "identities", "wanted at least one uid with its spiffe_id, got none"


class CaFile(msgspec.Struct, frozen=True, kw_only=True):
    """The file of ``meshtls ca serve``, key by key."""

    trust_domain: Annotated[TrustDomain, Key("The trust domain that this CA issues for.", TRUST_DOMAIN)]
    socket_path: Annotated[
        Path, Key("The Unix socket on which the Workload API and SDS are served.", PATH, old=("socket",))
    ]
    identities: Annotated[tuple[Identity, ...], Key("The SPIFFE ID of each user.", live=True)]
    default_x509_svid_ttl: Annotated[timedelta, Key("The lifetime of an X509-SVID.", DURATION, old=("svid_ttl",))] = (
        timedelta(hours=1)
    )
    default_jwt_svid_ttl: Annotated[timedelta, Key("The lifetime of a JWT-SVID.", DURATION)] = timedelta(minutes=5)
    data_dir: Annotated[
        Path | None,
        Key("The directory of the CA's keys.", PATH, default="in memory: each start creates a new CA"),
    ] = None
    trust_bundle_path: Annotated[
        Path | None,
        Key("The file that the trust bundle is written to, in PEM.", PATH, old=("bundle_file",), default="none"),
    ] = None
    log_level: Annotated[str, Key("The lowest level that is logged on standard error.", LOG_LEVEL, live=True)] = "INFO"
    log_format: Annotated[LogFormat, Key("How lines of the log are written.", choice(LogFormat))] = LogFormat.CONSOLE

    RULES: ClassVar[tuple[Rule, ...]] = (_uids_are_unique_and_ids_in_the_trust_domain, _identities_are_not_empty)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaConfig:
    """The configuration of ``meshtls ca serve``.

    - ``identities``: the SPIFFE ID of each local uid.
    - ``data_dir``: None keeps the CA in memory.
    - ``notices``: remarks on the file for the operator.
    - ``file``: the values of the file by key, which a reload compares.
    """

    trust_domain: TrustDomain
    socket_path: Path
    identities: Mapping[int, SpiffeId]
    x509_svid_ttl: timedelta
    jwt_svid_ttl: timedelta
    data_dir: Path | None
    trust_bundle_path: Path | None
    log_level: str
    log_format: LogFormat = LogFormat.CONSOLE
    notices: tuple[str, ...]
    file: CaFile = field(repr=False, compare=False)


def load_ca_config(path: Path) -> CaConfig:
    """Read the file. Raises ConfigError."""
    return parse_ca_config(read_text(path), str(path))


def parse_ca_config(text: str, file: str = "ca.yaml") -> CaConfig:
    """Read the YAML; ``file`` is its name in messages. Raises ConfigError."""
    document = yaml_document(file, text)
    return _config(read(document, CaFile).value, tuple(document.notices))


def reloaded(running: CaConfig, wanted: CaConfig) -> tuple[CaConfig, Changes]:
    """The configuration that a reload puts into use, and the keys that differ. Raises ConfigError."""
    check_same_domain(running.trust_domain, wanted.trust_domain)
    file, changes = merged(running.file, wanted.file)
    return _config(file, wanted.notices), changes


def _config(file: CaFile, notices: tuple[str, ...]) -> CaConfig:
    return CaConfig(
        trust_domain=file.trust_domain,
        socket_path=file.socket_path,
        identities={one.uid: one.spiffe_id for one in file.identities},
        x509_svid_ttl=file.default_x509_svid_ttl,
        jwt_svid_ttl=file.default_jwt_svid_ttl,
        data_dir=file.data_dir,
        trust_bundle_path=file.trust_bundle_path,
        log_level=file.log_level,
        log_format=file.log_format,
        notices=notices,
        file=file,
    )
