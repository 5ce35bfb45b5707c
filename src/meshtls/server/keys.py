"""Opens a server's keys: the CA's, the JWT key, and the ID of this server in the store."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

from meshtls.ca.authority import Authority
from meshtls.ca.keys.disk import DiskKeys
from meshtls.ca.keys.memory import MemoryKeys
from meshtls.clock import Clock
from meshtls.errors import ConfigError
from meshtls.private_files import read_secret, replace_secrets
from meshtls.server.jwt_key import JwtKey, jwt_key_in
from meshtls.server.settings import KeyPlace, ServerConfig
from meshtls.server.signing import Signing

__all__ = ["opened_signing"]


@contextlib.contextmanager
def opened_signing(config: ServerConfig, clock: Clock) -> Iterator[Signing]:
    """The server's keys, created at the first start. Raises ConfigError where they can't be read, used or written."""
    name = _server_id(config.data_dir / "server-id")
    on_disk = config.key_place is KeyPlace.DISK
    keys = DiskKeys(config.keys_dir, config.ca_key_type) if on_disk else MemoryKeys(config.ca_key_type)
    authority = Authority.create(
        config.trust_domain,
        clock,
        svid_ttl=config.default_x509_svid_ttl,
        intermediate_ttl=config.ca_ttl,
        keys=keys,
        subject=config.ca_subject,
    )
    try:
        jwt_type = config.jwt_key_type
        jwt_key = jwt_key_in(config.keys_dir, jwt_type) if on_disk else JwtKey(jwt_type.generate())
        yield Signing(name, authority, jwt_key, clock)
    finally:
        authority.close()


def _server_id(path: Path) -> str:
    if not path.exists():
        replace_secrets({path: str(uuid.uuid4()).encode()})
    try:
        return str(uuid.UUID(read_secret(path).decode().strip()))
    except ValueError as error:
        raise ConfigError(f"{path}: wanted this server's UUID; restore the file, or remove it for a new one") from error
