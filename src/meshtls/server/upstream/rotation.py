"""Follows the upstream authority: its roots are this server's X.509 authorities, and its CA is signed again in time.

A root is in our bundle, PREPARED, before our CA hangs on it, and ACTIVE once it does. The CA is signed anew at half of
its life, when the upstream authority would sign with something else, and at once when the root above is tainted or
gone. As with roots of our own, everything is stored before it takes effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256

from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.ca.authority_states import PUBLISHED, AuthorityState, AuthorityStep
from meshtls.ca.profile import Signer, leaf_certificate
from meshtls.ca.subordinate import SubordinateAuthority, SubordinateCa
from meshtls.clock import Clock
from meshtls.errors import AccessError, ConfigError, LocalIdentityError, MeshtlsError, PeerError, RequestError
from meshtls.identity.request import request_for
from meshtls.logs import logger
from meshtls.observe.outage import Outage
from meshtls.registration import server_id
from meshtls.revocation.crl import load_crl
from meshtls.revocation.lists import is_listed, revocations_of
from meshtls.server.access import Caller
from meshtls.server.audit import authority_state
from meshtls.server.authority_choice import check_confirmed, told_of, with_id
from meshtls.server.authority_keys import AuthorityKeys
from meshtls.server.hub import Hub
from meshtls.server.ledger import Ledger
from meshtls.server.signing import Signing
from meshtls.server.store import agents, authorities, bundles, revocations
from meshtls.server.store.authorities import UPSTREAM, AuthorityRecord
from meshtls.server.store.bundles import x509_authority
from meshtls.server.store.database import Database
from meshtls.server.store.revocations import StoredCrl
from meshtls.server.upstream.authority import UpstreamAuthority
from meshtls.server.upstream.following import Lesson, lessons
from meshtls.serverapi.upstream import UpstreamBundle, UpstreamCa
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import verify_peer
from meshtls.svid.x509 import format_serial, issuer_key_id_of, key_id_of
from meshtls.x509_names import name_text

__all__ = ["UpstreamRotation"]

#: Seconds between two looks at the upstream authority, and after a CA that it did not sign.
_POLL_SECONDS = 2.0
_RETRY = timedelta(seconds=5)
#: How long agents get to confirm a new root where the one in use is tainted or gone.
_PATIENCE = timedelta(seconds=10)
#: How long a start without any CA waits for one.
_FIRST = timedelta(minutes=1)
_PROBE = timedelta(minutes=1)

log = logger("meshtls.server")


class UpstreamRotation:
    """Call ``open`` before anything is signed, and ``tick`` again and again; not two methods at once."""

    def __init__(
        self,
        database: Database,
        hub: Hub,
        signing: Signing,
        keys: AuthorityKeys,
        ledger: Ledger,
        clock: Clock,
        source: UpstreamAuthority,
        ca_ttl: timedelta,
    ) -> None:
        self._database = database
        self._hub = hub
        self._signing = signing
        self._keys = keys
        self._ledger = ledger
        self._clock = clock
        self._source = source
        self._ca_ttl = ca_ttl
        self._bundle: UpstreamBundle | None = None
        #: The JWT keys that a bundle from above had. One of them that the present bundle has not was revoked there.
        self.seen_above: set[str] = set()
        self._unread = Outage(log, clock)
        self._unsigned = Outage(log, clock)
        self._next_try: datetime | None = None
        self._crls: tuple[bytes, ...] | None = None

    async def open(self) -> None:
        """Sign with the CA that was active, or with a new one. Raises a MeshtlsError where there is none at all."""
        async with self._database.read() as tx:
            active = {one.id for one in await self._of(tx) if one.state is AuthorityState.ACTIVE}
        own = [name for name, one in self._keys.x509.items() if not isinstance(one, SubordinateAuthority)]
        own = [name for name in own if name in active]
        if not own and not self._held():
            await self._first_ca()
        signers = [one for one in self._held() if one.id in active]
        if own and not signers:
            # Its root is in the bundle of all agents, that of the upstream authority is not yet.
            self._signing.authority = self._keys.x509[own[0]]
            return
        signer = signers[0] if signers else self._held()[0]
        now, domain = self._clock.now(), self._hub.trust_domain
        async with self._database.write() as tx:
            record = await self._published(tx, await self._locked(tx), signer, now)
            if record.state is AuthorityState.PREPARED:
                await authorities.move(tx, domain, record, AuthorityStep.ACTIVATE, now)
            await self._ledger.record_authorities(tx, UPSTREAM, str(domain.id))
        self._signing.authority = signer

    async def tick(self, *, by_clock: bool = True) -> float:
        """Follow what has changed above. Returns in how many seconds to call this again. Raises StoreError.

        Unless ``by_clock``, which may be ahead, no CA is signed anew for its age, and none is deleted.
        """
        await self._read()
        if self._bundle is not None:
            await self._learn(self._bundle)
        now = self._clock.now()
        reason = await self._reason_to_renew(now, by_clock=by_clock)
        if reason and (self._next_try is None or now >= self._next_try):
            try:
                await self._renew(reason)
                self._next_try = None
                self._unsigned.ended(f"upstream authority {self._source.name}: it signs again")
            except MeshtlsError as error:
                self._next_try = now + _RETRY
                text = f"upstream authority {self._source.name}: our CA can't be signed anew ({reason}): {error}"
                self._unsigned.failed(str(error), text)
        await self._activate_when_due(by_clock=by_clock)
        if self._bundle is not None and self._bundle.crls is not None:
            # Last: once the agents know of a revoked CA they request SVIDs anew, which another one should sign.
            await self._take_crls(self._bundle.crls)
        if by_clock:
            self._forget_ended()
        return _POLL_SECONDS

    async def prepare(self, caller: Caller | None) -> AuthorityRecord:
        """Have a new CA signed. Where its root is new it waits for ``activate``; otherwise it signs from now on."""
        return await self._renew("as an administrator asked", caller)

    async def activate(self, wanted: str, *, force: bool, caller: Caller | None) -> AuthorityRecord:
        """Sign below the prepared root. Raises RequestError as for a root of our own."""
        found = await self._candidate()
        if found is None or not with_id([found[0]], wanted):
            raise RequestError(
                f"can't activate {wanted or 'an X.509 authority'}: the upstream authority {self._source.name} has"
                " signed no CA of ours below it; prepare one first"
            )
        record, without = found
        if not force:
            check_confirmed(record, without)
        return await self._activate(record, caller)

    def check_not_ours(self, wanted: str) -> None:
        """Raises RequestError for the ID of our own CA: only the authority above it can be tainted or revoked."""
        for one in self._held():
            for ca in one.cas:
                own_id = key_id_of(ca.signer.certificate)
                if wanted and own_id.startswith(wanted) and not one.id.startswith(wanted):
                    raise RequestError(
                        f"{own_id} is the CA of this server, below the upstream authority {one.id}: prepare replaces"
                        " it; what can be tainted and revoked is the authority, there or, once it is old, here"
                    )

    @property
    def bundle(self) -> UpstreamBundle | None:
        """The newest of the upstream authority, None before the first."""
        return self._bundle

    async def publish_jwt(self, published: bundles.Published) -> None:
        """Publish a JWT key above, where that has such keys. Raises a MeshtlsError."""
        if self._bundle is None:
            await self._read()
        if self._bundle is None:
            raise LocalIdentityError(f"upstream authority {self._source.name}: its bundle can't be read at present")
        if self._bundle.keys is None or published.name in self._bundle.keys:
            return
        await self._source.publish(
            published.name, bundles.public_key(published.name, published.der), published.expires_at
        )

    async def _read(self) -> None:
        try:
            found = await self._source.bundle()
        except MeshtlsError as error:
            text = f"upstream authority {self._source.name}: its bundle can't be read, and ours stays as it is: {error}"
            self._unread.failed(str(error), text)
            return
        if not found.roots:
            self._unread.failed("empty", f"upstream authority {self._source.name}: it has no root, and ours stay")
            return
        self._bundle = found
        self.seen_above.update(found.keys or ())
        self._unread.ended(f"upstream authority {self._source.name}: its bundle can be read again")

    async def _learn(self, bundle: UpstreamBundle) -> None:
        in_use = {x509_authority(self._signing.authority.root).name}
        async with self._database.read() as tx:
            if not list(lessons(await authorities.list_authorities(tx), bundle, in_use, self.seen_above)):
                return
        now, domain = self._clock.now(), self._hub.trust_domain
        async with self._database.write() as tx:
            found = list(lessons(await authorities.locked_authorities(tx), bundle, in_use, self.seen_above))
            acts = []
            for one in found:
                if one.new is not None:
                    await bundles.publish(tx, domain, UPSTREAM, one.new, now, one.state)
                if one.record is not None:
                    record, before = one.record, authority_state(one.record)
                    for step in one.steps:
                        record = await authorities.move(tx, domain, record, step, now)
                    act, after = "follow upstream authority", authority_state(record)
                    acts.append(self._ledger.trail.record(None, act, record, before=before, after=after))
            await self._ledger.record_authorities(tx, UPSTREAM, str(domain.id))
            await self._ledger.trail.append(tx, acts)
        for one in found:
            _tell(one)
        await self._hub.written()

    async def _reason_to_renew(self, now: datetime, *, by_clock: bool) -> str:
        """Why our CA is to be signed anew, empty if it is not."""
        signs = self._signing.authority
        if not isinstance(signs, SubordinateAuthority):
            waiting = self._held()
            return "" if waiting and waiting[0].ca.renew_at > now else "this server had a root of its own"
        newest = next(iter(self._held()), None)
        if newest is None:
            return "its files are gone"
        if urgent := self._is_lost(newest, await self._state_here(newest)):
            return urgent
        crls = (self._bundle.crls if self._bundle else None) or ()
        if is_listed(revocations_of(crls), newest.ca.signer.certificate.serial_number):
            return "it is revoked there"
        if by_clock and now >= newest.ca.renew_at:
            return "half of its life is over"
        issuer = self._bundle.issuer if self._bundle else ""
        if issuer and issuer != issuer_key_id_of(newest.ca.signer.certificate):
            return f"the upstream authority signs with {issuer} now"
        return ""

    async def _take_crls(self, sent: tuple[bytes, ...]) -> None:
        """Have every agent here get these. Only what is new since the last look is stored: of two servers of one store,
        one may be cut off from the one above, and must not undo what the other has learned.
        """
        if sent == self._crls:
            return
        stored = [StoredCrl(sha256(der).hexdigest(), UPSTREAM, 0, der, load_crl(der).next_update) for der in sent]
        async with self._database.write() as tx:
            await revocations.replace_crls(tx, UPSTREAM, stored)
        self._crls = sent
        await self._hub.written()

    def _is_lost(self, authority: SubordinateAuthority, here: AuthorityState | None) -> str:
        """Why nobody should hang on the root of this one any more; empty if there is no reason. ``here`` is its
        state in our store.
        """
        bundle = self._bundle
        if bundle is not None and authority.root in bundle.tainted:
            return f"{authority.id} is tainted there"
        if bundle is not None and bundle.complete and authority.root not in bundle.roots:
            return f"{authority.id} is revoked there"
        if here is None or here in PUBLISHED - {AuthorityState.TAINTED}:
            return ""
        return f"{authority.id} is {here.name}"

    async def _state_here(self, authority: SubordinateAuthority) -> AuthorityState | None:
        """The state of its root in our store, None where that is not there."""
        name = x509_authority(authority.root).name
        async with self._database.read() as tx:
            return next((one.state for one in await self._of(tx) if one.published.name == name), None)

    async def _renew(self, reason: str, caller: Caller | None = None) -> AuthorityRecord:
        authority = await self._new_ca()
        now, domain = self._clock.now(), self._hub.trust_domain
        try:
            async with self._database.write() as tx:
                record = await self._published(tx, await self._locked(tx), authority, now)
                if record.state not in (AuthorityState.ACTIVE, AuthorityState.PREPARED):
                    raise ConfigError(f"it signed below {record}, which is {record.state.name} here")
                await self._ledger.record_authorities(tx, UPSTREAM, str(domain.id))
                told = self._ledger.trail.record(caller, "have CA signed", record, after={"reason": reason})
                await self._ledger.trail.append(tx, [told])
        except MeshtlsError:  # otherwise each try leaves one more
            self._keys.held.remove([authority.ca])
            self._keys.read_held()
            raise
        log.info("upstream authority %s: our CA was signed anew, %s", self._source.name, reason)
        if authority.root == self._signing.authority.root:
            self._signing.authority = authority
        await self._hub.written()
        return record

    async def _first_ca(self) -> None:
        """At the first start the identity there, or the server, may come later than this one."""
        until = self._clock.now() + _FIRST
        while True:
            try:
                await self._new_ca()
            except (AccessError, LocalIdentityError) as error:
                text = f"upstream authority {self._source.name}: it has not signed our first CA yet: {error}"
                if self._clock.now() > until:
                    raise ConfigError(text) from error
                self._unsigned.failed(str(error), text)
            else:
                return
            await self._clock.sleep(_POLL_SECONDS / 4)

    async def _new_ca(self) -> SubordinateAuthority:
        key = await asyncio.to_thread(self._keys.new_ca_key)
        signed = await self._source.sign_ca(request_for(key), self._ca_ttl)
        ca = self._checked(signed, Signer(signed.chain[0], key) if signed.chain else None)
        self._keys.held.add(ca)
        self._keys.read_held()
        return next(one for one in self._held() if ca in one.cas)

    def _checked(self, signed: UpstreamCa, signer: Signer | None) -> SubordinateCa:
        """The CA, whose SVIDs the roots above verify. Raises ConfigError."""
        domain, now = self._hub.trust_domain, self._clock.now()
        if signer is None or signer.certificate.public_key() != signer.private_key.public_key():
            raise ConfigError("wanted a certificate for our key, got another one")
        probe = leaf_certificate(server_id(domain), signer.private_key.public_key(), (), signer, now, _PROBE)
        chain = [one.public_bytes(Encoding.DER) for one in (probe, *signed.chain)]
        for root in signed.roots:
            try:
                verify_peer(chain, BundleSet([TrustBundle(domain, (root,))]), now)
            except PeerError as error:
                problem = error
                continue
            ca = SubordinateCa(signer, tuple(one for one in signed.chain[1:] if one != root), root)
            _check_names_root(ca)
            return ca
        why = str(problem) if signed.roots else "it names no root"
        raise ConfigError(f"SVIDs of the CA that it signed would be refused: {why}")

    async def _published(
        self, tx: AsyncConnection, records: Sequence[AuthorityRecord], one: SubordinateAuthority, now: datetime
    ) -> AuthorityRecord:
        """The record of the root above, which is in the bundle from now on unless it was taken out."""
        domain, published = self._hub.trust_domain, x509_authority(one.root)
        found = [record for record in records if record.published.name == published.name]
        if not found:
            await bundles.publish(tx, domain, UPSTREAM, published, now, AuthorityState.PREPARED)
            found = [record for record in await self._of(tx) if record.published.name == published.name]
        [record] = found
        if record.state is AuthorityState.OLD:
            record = await authorities.publish_again(tx, domain, record, now)
        return record

    async def _activate_when_due(self, *, by_clock: bool) -> None:
        found = await self._candidate()
        if found is None:
            return
        record, without = found
        now, signs = self._clock.now(), self._signing.authority
        if isinstance(signs, SubordinateAuthority):
            here = await self._state_here(signs)
            lost = self._is_lost(signs, here)
            left, life = signs.ca.ends_at - now, signs.ca.ends_at - signs.ca.since
            # Another server of this store may sign below the new root, or have taken ours out of the bundle: who waits
            # then signs what nobody accepts.
            in_vain = record.state is AuthorityState.ACTIVE or here not in (*PUBLISHED, None)
            waited = in_vain or now >= record.changed_at + _PATIENCE
            overdue = (lost and waited) or (by_clock and left < life / 6)
        else:
            overdue = False
        if without and not overdue:
            return
        if without:
            log.warning("%s is active, though %s not confirmed the bundle with it", record, told_of(without))
        await self._activate(record, None)

    async def _activate(self, record: AuthorityRecord, caller: Caller | None) -> AuthorityRecord:
        domain, now = self._hub.trust_domain, self._clock.now()
        replaced = self._signing.authority
        complete = self._bundle is not None and self._bundle.complete
        async with self._database.write() as tx:
            present = await self._locked(tx)
            # Another server of this store may have activated it since it was read.
            record = next((one for one in present if one.published.name == record.published.name), record)
            for one in present:
                mine = one.server_id in (UPSTREAM, self._signing.server_id)
                is_replaced = one.id == replaced.id and one.published.name != record.published.name
                if one.state is AuthorityState.ACTIVE and mine and is_replaced:
                    # Others hang on it, too: it leaves the bundle when it leaves that of the upstream authority.
                    rest = one.ends_at - now
                    stays = {"signing_ends": rest} if complete and one.server_id == UPSTREAM else {}
                    await authorities.move(tx, domain, one, AuthorityStep.RETIRE, now, **stays)
            before = authority_state(record)
            if record.state is AuthorityState.PREPARED:  # another server may hang on it already
                record = await authorities.move(tx, domain, record, AuthorityStep.ACTIVATE, now)
            act, after = "activate authority", authority_state(record)
            await self._ledger.trail.append(
                tx, [self._ledger.trail.record(caller, act, record, before=before, after=after)]
            )
        self._signing.authority = self._held()[0]
        log.info("%s is active: our CA below it signs from now on", record)
        await self._hub.written()
        return record

    def _forget_ended(self) -> None:
        now, signs = self._clock.now(), self._signing.authority
        # ``signs`` may be older than the authority of ``_held`` with the same root, and have the same CAs.
        signer = signs.ca if isinstance(signs, SubordinateAuthority) else None
        ended = [ca for one in self._held() for ca in one.cas if ca is not signer and ca.ends_at < now]
        if ended:
            self._keys.held.remove(ended)
            self._keys.read_held()
            if isinstance(signs, SubordinateAuthority):
                self._signing.authority = self._keys.x509[signs.id]

    def _held(self) -> list[SubordinateAuthority]:
        """The CAs below an upstream root, the one with the newest CA first."""
        found = [one for one in self._keys.x509.values() if isinstance(one, SubordinateAuthority)]
        return sorted(found, key=lambda one: one.ca.since, reverse=True)

    async def _candidate(self) -> tuple[AuthorityRecord, list[SpiffeId]] | None:
        """The root of the newest CA, unless we sign below it already, and the agents that have not confirmed it."""
        newest = next(iter(self._held()), None)
        if newest is None or newest.root == self._signing.authority.root:
            return None
        name = x509_authority(newest.root).name
        async with self._database.read() as tx:
            for one in await self._of(tx):
                if one.published.name == name and one.state in (AuthorityState.PREPARED, AuthorityState.ACTIVE):
                    return one, await agents.without_bundle(tx, one.revision, self._clock.now())
        return None

    async def _of(self, tx: AsyncConnection) -> list[AuthorityRecord]:
        return [one for one in await authorities.list_authorities(tx) if one.kind == "x509"]

    async def _locked(self, tx: AsyncConnection) -> list[AuthorityRecord]:
        return [one for one in await authorities.locked_authorities(tx) if one.kind == "x509"]


def _check_names_root(ca: SubordinateCa) -> None:
    """SVIDs are found by the key id of their root when that is tainted. Raises ConfigError."""
    last, wanted = ca.chain[-1], key_id_of(ca.root)
    found = issuer_key_id_of(last)
    if found != wanted:
        raise ConfigError(
            f"a taint of its root would replace no SVID: wanted the authority key identifier {wanted} in certificate"
            f" {format_serial(last)} ({name_text(last.subject)}), got {found or 'none'}; issue that one again"
            " (RFC 5280, section 4.2.1.1)"
        )


def _tell(lesson: Lesson) -> None:
    if lesson.new is not None:
        log.info("upstream authority: %s %s is in the bundle", lesson.new.kind, lesson.new.name)
    elif AuthorityStep.REVOKE in lesson.steps:
        log.warning("%s is revoked upstream, and so here", lesson.record)
    else:
        log.warning("%s is tainted upstream: its SVIDs are replaced now", lesson.record)
