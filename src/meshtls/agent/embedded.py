"""A CA in the agent's process as its upstream: for `meshtls up`, for tests, for machines without a server."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from meshtls.agent.upstream import EntryCsr, SigningResult, Update
from meshtls.bundle import BundleSet, TrustBundle
from meshtls.ca.authority import Authority
from meshtls.clock import Clock
from meshtls.errors import ConfigError, LocalIdentityError, NotFoundError, RequestError
from meshtls.registration import Entry
from meshtls.spiffeid import TrustDomain
from meshtls.svid.jwt import sign
from meshtls.svid.x509 import PrivateKey

__all__ = ["EmbeddedUpstream"]


class EmbeddedUpstream:
    """Implements Upstream over an authority and a list of entries. Each change of the entries is pushed at once.

    ``jwt_key`` is a new P-256 key unless given; ``federated`` are bundles of other trust domains.
    """

    trouble: str | None = None

    def __init__(
        self,
        authority: Authority,
        clock: Clock,
        entries: Iterable[Entry] = (),
        *,
        federated: Iterable[TrustBundle] = (),
        jwt_key: PrivateKey | None = None,
        jwt_ttl: timedelta = timedelta(minutes=5),
    ) -> None:
        self.trust_domain: TrustDomain = authority.trust_domain
        self._authority = authority
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._federated = {bundle.trust_domain: bundle for bundle in federated}
        self._jwt_key = jwt_key or ec.generate_private_key(ec.SECP256R1())
        public = self._jwt_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self._jwt_key_id = hashlib.sha256(public).hexdigest()[:32]
        self._jwt_ttl = jwt_ttl
        self._made = 0
        self._changed = asyncio.Event()
        for entry in entries:
            self.put_entry(entry)

    def put_entry(self, entry: Entry) -> Entry:
        """Add the entry, or replace the one with its id, keeping its creation order. Without an id it gets a new one.

        Returns the entry as stored. Raises RequestError for an ID of another trust domain.
        """
        if not entry.spiffe_id.member_of(self.trust_domain):
            raise RequestError(f"entry {entry.spiffe_id}: this CA issues for trust domain {self.trust_domain} only")
        key = entry.id or str(uuid.uuid4())
        if key in self._entries:
            created = self._entries[key].created
        else:
            created = self._made = self._made + 1
        kept = self._entries[key] = replace(entry, id=key, created=created)
        self._wake()
        return kept

    def remove_entry(self, entry_id: str) -> None:
        """Raises NotFoundError."""
        if self._entries.pop(entry_id, None) is None:
            raise NotFoundError(f"entry {entry_id}: not found; known: {', '.join(self._entries) or 'none'}")
        self._wake()

    def put_bundle(self, bundle: TrustBundle) -> None:
        """Federate with this trust domain, or replace its bundle. Raises RequestError for our own trust domain."""
        if bundle.trust_domain == self.trust_domain:
            raise RequestError(
                f"bundle of {bundle.trust_domain}: wanted another trust domain's; the authority provides our own"
            )
        self._federated[bundle.trust_domain] = bundle
        self._wake()

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._entries.values())

    @property
    def bundles(self) -> BundleSet:
        """The authority's bundle, with the JWT key, and those of federated trust domains."""
        own = replace(self._authority.bundle, jwt_authorities={self._jwt_key_id: self._jwt_key.public_key()})
        return BundleSet([own, *self._federated.values()])

    async def watch(self) -> AsyncGenerator[Update]:
        """A whole update after each change: that is cheap within one process, and the cache finds the differences."""
        while True:
            changed = self._changed
            yield Update(entries=self.entries, bundles=self.bundles, whole=True)
            await changed.wait()

    async def sign_x509(self, requests: Sequence[EntryCsr]) -> Sequence[SigningResult]:
        """Sign. The authority records each SVID before it is returned."""
        return [self._sign(request) for request in requests]

    async def sign_jwt(self, entry_id: str, audience: Sequence[str]) -> str:
        """Sign a token. Raises NotFoundError, RequestError for an invalid audience."""
        entry = self._entry(entry_id)
        ttl = timedelta(seconds=entry.jwt_svid_ttl) or self._jwt_ttl
        now, key, key_id = self._clock.now(), self._jwt_key, self._jwt_key_id
        return sign(entry.spiffe_id, audience, key=key, key_id=key_id, now=now, ttl=ttl).token

    def __repr__(self) -> str:
        return f"<EmbeddedUpstream {self.trust_domain} [{len(self._entries)} entries]>"

    def _sign(self, request: EntryCsr) -> SigningResult:
        try:
            entry = self._entry(request.entry_id)
            ttl = timedelta(seconds=entry.x509_svid_ttl) or None
            return self._authority.issue(entry.spiffe_id, request.csr, ttl=ttl, dns_names=entry.dns_names)
        except RequestError as error:
            return error
        except ConfigError as error:
            return LocalIdentityError(f"the CA can't issue: {error}")

    def _entry(self, entry_id: str) -> Entry:
        entry = self._entries.get(entry_id)
        if entry is None:
            raise NotFoundError(f"entry {entry_id}: it no longer exists")
        return entry

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
