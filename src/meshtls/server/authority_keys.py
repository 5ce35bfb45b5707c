"""The keys of this server's authorities, by the authority's id, opened from its key ring."""

from __future__ import annotations

from datetime import datetime

from meshtls.ca.authority import Authority
from meshtls.ca.keys.manager import KeyManager
from meshtls.ca.subordinate import SubordinateAuthority, SubordinateCa, X509Authority
from meshtls.clock import Clock
from meshtls.errors import ConfigError
from meshtls.server.jwt_key import JwtKey
from meshtls.server.key_ring import KeyRing
from meshtls.server.settings import ServerConfig
from meshtls.server.store.bundles import Published, jwt_authority, x509_authority
from meshtls.server.upstream.held import HeldCas
from meshtls.svid.x509 import PrivateKey, key_id_of

__all__ = ["AuthorityKeys"]


class AuthorityKeys:
    """The keys that this server signs with. ``x509`` and ``jwt`` hold an authority for each stored key; one of each
    kind is made where there is none.

    Below an upstream authority none is made: ``held`` has the CAs that were signed there, and ``x509`` those by root.

    Raises ConfigError where the stored keys can't be used.
    """

    def __init__(self, ring: KeyRing, config: ServerConfig, clock: Clock, held: HeldCas | None = None) -> None:
        self._ring = ring
        self._config = config
        self._clock = clock
        self.held = held or HeldCas(None)
        self._own = {one.id: one for one in map(self._open, ring.stored())}
        self.x509: dict[str, X509Authority] = {}
        self.read_held()
        self.jwt = {key.kid: key for key in ring.stored_jwt()}
        if config.offline_root:
            self.take_installed()
        if not self.x509 and config.upstream is None:
            self.new("x509")
        if not self.jwt:
            self.new("jwt")

    def new(self, kind: str) -> str:
        """Make and store the keys of one more authority; returns its id. Raises ConfigError."""
        if kind == "jwt":
            key = self._ring.add_jwt()
            self.jwt[key.kid] = key
            return key.kid
        if not self.makes(kind):
            raise ConfigError(
                "this server's root is offline (offline_root): request a CA with `meshtls ca csr`, sign it with"
                " `meshtls ca sign`, and install it with `meshtls ca install`"
            )

        def fill(keys: KeyManager) -> None:
            self._open(keys)  # for the keys that this makes: they are opened again at their final place

        authority = self._open(self._ring.add(fill))
        self.x509[authority.id] = self._own[authority.id] = authority
        return authority.id

    def new_ca_key(self) -> PrivateKey:
        """The key of a CA that an upstream authority is to sign."""
        return self._config.ca_key_type.generate()

    def read_held(self) -> None:
        """Make ``x509`` follow ``held``, those with the newest CA first."""
        by_root: dict[str, list[SubordinateCa]] = {}
        for one in self.held.newest_first():
            by_root.setdefault(key_id_of(one.root), []).append(one)
        self.x509 = {**{name: self._below(cas) for name, cas in by_root.items()}, **self._own}

    def makes(self, kind: str) -> bool:
        """Whether ``new`` can make one of this kind."""
        return kind == "jwt" or not self._config.offline_root

    def take_installed(self) -> str | None:
        """Take the CA that `meshtls ca install` has left; returns the id of its authority. Raises ConfigError."""
        keys = self._ring.take_installed()
        if keys is None:
            return None
        authority = self._open(keys)
        self.x509[authority.id] = self._own[authority.id] = authority
        return authority.id

    def drop(self, kind: str, authority_id: str) -> None:
        """Delete its keys, if there are any. Raises ConfigError."""
        if kind == "jwt":
            if self.jwt.pop(authority_id, None):
                self._ring.remove_jwt(authority_id)
        elif authority := self.x509.pop(authority_id, None):
            if isinstance(authority, SubordinateAuthority):
                self.held.remove(authority.cas)
            elif own := self._own.pop(authority_id, None):
                self._ring.remove(own.keys)

    def of(self, kind: str) -> list[str]:
        """The ids of this kind, those of the oldest authorities first."""
        if kind == "jwt":
            return list(self.jwt)
        return sorted(self.x509, key=lambda one: self.x509[one].root.not_valid_before_utc)

    def published(self, kind: str, authority_id: str, now: datetime) -> Published:
        """It as the bundle has it. A JWT key's life begins now."""
        if kind == "x509":
            return x509_authority(self.x509[authority_id].root)
        key: JwtKey = self.jwt[authority_id]
        return jwt_authority(key.kid, key.private_key.public_key(), now + self._config.jwt_key_ttl)

    def close(self) -> None:
        self._ring.close()

    def _below(self, cas: list[SubordinateCa]) -> SubordinateAuthority:
        config = self._config
        return SubordinateAuthority(
            config.trust_domain,
            self._clock,
            cas,
            svid_ttl=config.default_x509_svid_ttl,
            subject=config.ca_subject,
            revocation_url=config.revocation_url,
        )

    def _open(self, keys: KeyManager) -> Authority:
        config = self._config
        return Authority.create(
            config.trust_domain,
            self._clock,
            svid_ttl=config.default_x509_svid_ttl,
            intermediate_ttl=config.ca_ttl,
            ca_ttl=config.root_ttl,
            keys=keys,
            subject=config.ca_subject,
            revocation_url=config.revocation_url,
        )
