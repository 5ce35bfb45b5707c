"""The configuration of ``meshtls ca serve``: one YAML file into one frozen struct. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from meshtls.errors import ConfigError, RequestError
from meshtls.scalars import duration, whole_number
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.yaml_reader import Section, read_yaml

__all__ = ["CaConfig", "load_ca_config", "parse_ca_config"]

_uid = whole_number(0, 2**32 - 2)


@dataclass(frozen=True, slots=True)
class CaConfig:
    """``identities`` says which SPIFFE ID each local uid gets; without ``data_dir`` the CA lives in memory."""

    trust_domain: TrustDomain
    socket: Path
    svid_ttl: timedelta
    identities: Mapping[int, SpiffeId]
    data_dir: Path | None = None
    bundle_file: Path | None = None


def load_ca_config(path: Path) -> CaConfig:
    """Read the file. Raises ConfigError."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: wanted a readable YAML file: {error}") from error
    return parse_ca_config(text, str(path))


def parse_ca_config(text: str, file: str = "ca.yaml") -> CaConfig:
    """Read the YAML; ``file`` is its name in messages. Raises ConfigError."""
    top = read_yaml(file, text)
    trust_domain = top.required("trust_domain", TrustDomain.parse)
    config = CaConfig(
        trust_domain=trust_domain,
        socket=top.required("socket", _path),
        svid_ttl=top.optional("svid_ttl", duration, timedelta(hours=1)),
        identities=_identities(top, trust_domain),
        data_dir=top.optional("data_dir", _path, None),
        bundle_file=top.optional("bundle_file", _path, None),
    )
    top.finish()
    return config


def _identities(top: Section, trust_domain: TrustDomain) -> dict[int, SpiffeId]:
    identities: dict[int, SpiffeId] = {}
    for section in top.sections("identities"):
        uid, spiffe_id = section.required("uid", _uid), section.required("spiffe_id", SpiffeId.parse)
        section.finish()
        if uid in identities:
            section.complain("uid", f"wanted each uid once, got {uid} again")
        if not spiffe_id.member_of(trust_domain) or not spiffe_id.path:
            section.complain("spiffe_id", f"wanted an ID with a path in trust domain {trust_domain}, got {spiffe_id}")
        identities[uid] = spiffe_id
    if not identities:
        top.complain("identities", "wanted at least one uid with its spiffe_id, got none")
    return identities


def _path(text: str) -> Path:
    if not text:
        raise RequestError("wanted a path, got an empty text")
    return Path(text)
