"""The configuration of ``meshtls ca serve``: its keys, and the reading of one YAML file.

The names are the server's and the agent's where those have the same thing.
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
from meshtls.config.keys import DURATION, LOG_LEVEL, PATH, TRUST_DOMAIN, Key, Value, number
from meshtls.config.reading import Found, Rule, RuleProblems, read
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["CaConfig", "CaFile", "load_ca_config", "parse_ca_config", "reloaded"]

_ID: Value[SpiffeId] = Value(
    "SPIFFE ID with a path", SpiffeId.parse, {"type": "string", "pattern": "^spiffe://[^/]+/."}
)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Which SPIFFE ID a local user's programs get."""

    uid: Annotated[int, Key("The user.", number(0, 2**32 - 2))]
    spiffe_id: Annotated[SpiffeId, Key("What its programs are; of this CA's trust domain.", _ID)]


def _each_uid_has_one_id_of_ours(found: Found[CaFile]) -> RuleProblems:
    seen = set()
    for place, uid in found.every("identities.uid"):
        if uid in seen:
            yield place, f"wanted each uid once, got {uid} again"
        seen.add(uid)
    trust_domain = found.values.get("trust_domain")
    for place, spiffe_id in found.every("identities.spiffe_id"):
        if trust_domain and not (spiffe_id.member_of(trust_domain) and spiffe_id.path):
            yield place, f"wanted an ID with a path in trust domain {trust_domain}, got {spiffe_id}"


def _somebody_has_an_identity(identities: tuple[Identity, ...]) -> RuleProblems:
    if not identities:
        yield "identities", "wanted at least one uid with its spiffe_id, got none"


class CaFile(msgspec.Struct, frozen=True, kw_only=True):
    """The file of ``meshtls ca serve``, key by key."""

    trust_domain: Annotated[TrustDomain, Key("The trust domain that this CA issues for.", TRUST_DOMAIN)]
    socket_path: Annotated[Path, Key("Where the Workload API and SDS are served.", PATH, old=("socket",))]
    identities: Annotated[tuple[Identity, ...], Key("Which user is whom.", live=True)]
    default_x509_svid_ttl: Annotated[timedelta, Key("How long an X509-SVID is valid.", DURATION, old=("svid_ttl",))] = (
        timedelta(hours=1)
    )
    default_jwt_svid_ttl: Annotated[timedelta, Key("How long a JWT-SVID is valid.", DURATION)] = timedelta(minutes=5)
    data_dir: Annotated[
        Path | None,
        Key("Where the CA's keys are kept.", PATH, default="nowhere: each start makes a new CA, in memory"),
    ] = None
    trust_bundle_path: Annotated[
        Path | None,
        Key("The file that the trust bundle is written to, in PEM.", PATH, old=("bundle_file",), default="none"),
    ] = None
    log_level: Annotated[str, Key("The least that is logged on standard error.", LOG_LEVEL, live=True)] = "INFO"

    RULES: ClassVar[tuple[Rule, ...]] = (_each_uid_has_one_id_of_ours, _somebody_has_an_identity)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaConfig:
    """What ``meshtls ca serve`` runs by. ``identities`` says which SPIFFE ID each local uid gets; without ``data_dir``
    the CA lives in memory. ``notices`` are what the operator is to know about the file;
    ``file`` is the file key by key, which a reload compares.
    """

    trust_domain: TrustDomain
    socket_path: Path
    identities: Mapping[int, SpiffeId]
    x509_svid_ttl: timedelta
    jwt_svid_ttl: timedelta
    data_dir: Path | None
    trust_bundle_path: Path | None
    log_level: str
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
    """What a running CA goes on by when its file says ``wanted``, and which keys differ. Raises ConfigError."""
    check_same_domain(running.trust_domain, wanted.trust_domain)
    file, changes = merged(running.file, wanted.file)
    return _config(file, wanted.notices), changes


def _config(said: CaFile, notices: tuple[str, ...]) -> CaConfig:
    return CaConfig(
        trust_domain=said.trust_domain,
        socket_path=said.socket_path,
        identities={one.uid: one.spiffe_id for one in said.identities},
        x509_svid_ttl=said.default_x509_svid_ttl,
        jwt_svid_ttl=said.default_jwt_svid_ttl,
        data_dir=said.data_dir,
        trust_bundle_path=said.trust_bundle_path,
        log_level=said.log_level,
        notices=notices,
        file=said,
    )
