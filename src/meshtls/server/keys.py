"""Opens a server's keys: those of its authorities, and the ID of this server in the store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from meshtls.ca.keys.disk import InToken
from meshtls.ca.keys.manager import Slot
from meshtls.ca.keys.pkcs11 import Pin, Token
from meshtls.clock import Clock
from meshtls.server.authority_keys import AuthorityKeys
from meshtls.server.disk_ring import DiskRing
from meshtls.server.key_ring import KeyRing, MemoryRing
from meshtls.server.server_id import server_id_in
from meshtls.server.settings import KeyPlace, ServerConfig
from meshtls.server.signing import Signing
from meshtls.server.upstream.held import HeldCas

__all__ = ["opened_in_token", "opened_signing"]


@contextlib.contextmanager
def opened_signing(config: ServerConfig, clock: Clock) -> Iterator[tuple[Signing, AuthorityKeys]]:
    """The server's keys, created at the first start. Raises ConfigError where they can't be read, used or written.

    Until the store says which authorities are active, the newest ones are.
    """
    name = server_id_in(config.data_dir)
    with opened_in_token(config) as in_token, contextlib.closing(_ring(config, in_token)) as ring:
        stored = config.upstream is not None and config.key_place is not KeyPlace.MEMORY
        keys = AuthorityKeys(ring, config, clock, HeldCas(config.keys_dir if stored else None))
        newest = keys.of("x509")
        x509, jwt = keys.x509[newest[-1]] if newest else None, keys.jwt[keys.of("jwt")[-1]]
        yield Signing(name, x509, jwt, ring.log_key(), clock), keys


def _ring(config: ServerConfig, in_token: InToken | None) -> KeyRing:
    types = config.ca_key_type, config.jwt_key_type
    return (
        MemoryRing(*types)
        if config.key_place is KeyPlace.MEMORY
        else DiskRing(config.keys_dir, *types, in_token, offline_root=config.offline_root)
    )


@contextlib.contextmanager
def opened_in_token(config: ServerConfig) -> Iterator[InToken | None]:
    """The token, which its first use opens, and what it has; None if none is configured.

    Raises ConfigError where python-pkcs11 is not installed.
    """
    if config.token is None:
        yield None
        return
    slots = set() if config.offline_root else {Slot.ROOT}
    if config.token.intermediates:
        slots |= {Slot.INTERMEDIATE, Slot.PREVIOUS}
    token = Token(config.token.module, config.token.label, Pin(config.token.pin_file, config.token.pin_env))
    with contextlib.closing(token):
        yield InToken(token, frozenset(slots), config.token.jwt)
