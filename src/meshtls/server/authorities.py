"""The life of this server's authorities: what signs, what is prepared, what is taken back.

Each step is on disk and in the store before it takes effect, in the order in which a crash loses nothing: a new key is
stored before the store has its authority, an authority is active in the store before it signs, and out of the store's
bundle before its key is deleted. ``open`` completes what a crash has interrupted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.ca.authority import Authority
from meshtls.ca.authority_states import PUBLISHED, AuthorityState, AuthorityStep
from meshtls.ca.rotation import Life
from meshtls.clock import Clock
from meshtls.errors import ConflictError, MeshtlsError, RequestError
from meshtls.logs import logger
from meshtls.observe.audit import AuditRecord
from meshtls.server.access import Caller
from meshtls.server.audit import authority_state, expiry_act
from meshtls.server.authority_choice import check_confirmed, check_revocable, one_of, told_of, with_id
from meshtls.server.authority_keys import AuthorityKeys
from meshtls.server.clock_jumps import ClockJumps
from meshtls.server.hub import Hub
from meshtls.server.ledger import Ledger
from meshtls.server.signing import Signing
from meshtls.server.store import agents, authorities, bundles
from meshtls.server.store.authorities import DOWNSTREAM, UPSTREAM, AuthorityRecord
from meshtls.server.store.bundles import Published
from meshtls.server.store.database import Database
from meshtls.server.upstream.rotation import UpstreamRotation
from meshtls.svid.x509 import format_moment, format_serial

__all__ = ["KINDS", "Authorities"]

KINDS = ("x509", "jwt")
#: The time that agents are given to confirm the bundle with a new authority, however late it was prepared.
_CONFIRMED_WITHIN = timedelta(seconds=10)
#: The longest time between two looks at the clock, in seconds.
_LONGEST_SLEEP = 10.0
#: Between two looks whether the servers above have our next key, in seconds.
_ABOVE_SECONDS = 2.0

log = logger("meshtls.server")


class Authorities:
    """Call ``open`` before anything is signed, and ``tick`` again and again. ``keys`` are those of its authorities.

    ``changed`` is set after each step, and cleared by whoever waits for it. No step is taken by the clock while
    ``jumps`` doubts it.
    """

    def __init__(
        self,
        database: Database,
        hub: Hub,
        signing: Signing,
        keys: AuthorityKeys,
        ledger: Ledger,
        clock: Clock,
        upstream: UpstreamRotation | None = None,
    ) -> None:
        self._upstream = upstream
        self.changed = asyncio.Event()
        self._database = database
        self._hub = hub
        self._signing = signing
        self.keys = keys
        self._ledger = ledger
        self._clock = clock
        self.jumps = ClockJumps(clock)
        self._stepping = asyncio.Lock()
        #: The prepared authorities of which was told that they wait for agents, and the CAs, that they end.
        self._late: set[str] = set()
        #: By kind, the authority whose keys are stored, though the store did not take it yet.
        self._unpublished: dict[str, str] = {}
        #: The authority of a CA that was installed, until the store has it.
        self._installed: str | None = None

    async def open(self) -> None:
        """Make the store and the stored keys agree, and sign with what is active. Raises ConfigError, StoreError."""
        if self._upstream is not None:
            await self._upstream.open()
        async with self._stepping, self._database.write() as tx:
            acts = []
            for kind in self._kept_here:
                acts += await self._open(tx, kind)
            if self._upstream is None:
                acts += await self._leave_upstream(tx)
            gone = await authorities.expire_ended(tx, self._hub.trust_domain, self._clock.now())
            acts += [expiry_act(self._ledger.trail, one) for one in gone]
            await self._record(tx, acts)

    async def prepare(self, kind: str, *, caller: Caller | None = None) -> AuthorityRecord:
        """Make the next authority of this kind and publish it. Raises ConflictError where there is one already,
        ConfigError, StoreError.
        """
        async with self._stepping:
            if self._upstream is not None and kind == "x509":
                record = await self._upstream.prepare(caller)
                self.changed.set()
                return record
            return await self._prepare(kind, caller)

    async def activate(
        self, kind: str, wanted: str = "", *, force: bool = False, caller: Caller | None = None
    ) -> AuthorityRecord:
        """Sign with the prepared authority of this kind from now on.

        Raises NotFoundError where none is prepared, RequestError for another one and, unless ``force``, where agents
        have not seen it yet.
        """
        async with self._stepping:
            if self._upstream is not None and kind == "x509":
                record = await self._upstream.activate(wanted, force=force, caller=caller)
                self.changed.set()
                return record
            return await self._activate(kind, wanted, force=force, caller=caller)

    async def taint(self, kind: str, wanted: str = "", *, caller: Caller | None = None) -> AuthorityRecord:
        """Have the SVIDs that hang on this old authority replaced now. Raises NotFoundError, RequestError, StoreError.

        Without ``wanted`` there must be one old authority.
        """
        self._check_not_ours(kind, wanted)
        async with self._stepping, self._database.write() as tx:
            records = await self._without_foreign(tx, kind, wanted)
            record = one_of(records, wanted, kind, AuthorityStep.TAINT)
            record = await self._take(tx, record, AuthorityStep.TAINT, caller)
        log.warning("%s is tainted: its SVIDs are replaced now", record)
        await self._told()
        return record

    async def revoke(
        self, kind: str, wanted: str = "", *, force: bool = False, caller: Caller | None = None
    ) -> AuthorityRecord:
        """Take this authority out of the bundle, and delete its key.

        Raises NotFoundError, RequestError and, unless ``force``, where SVIDs in use hang on it.
        """
        self._check_not_ours(kind, wanted)
        async with self._stepping:
            async with self._database.write() as tx:
                records = await self._without_foreign(tx, kind, wanted if force else "")
                record = one_of(records, wanted, kind, AuthorityStep.REVOKE)
                if not force:
                    now = self._clock.now()
                    held = await authorities.holders(tx, self._hub.trust_domain, record, now)
                    check_revocable(record, held, now)
                record = await self._take(tx, record, AuthorityStep.REVOKE, caller)
            log.warning("%s is revoked: no peer accepts its SVIDs any more", record)
            self.keys.drop(kind, record.id)
        await self._told()
        return record

    async def tick(self) -> float:
        """Take each step that is due by the clock. Returns in how many seconds to call this again.

        A step that fails keeps no other from being taken. Raises the first one's ConfigError, StoreError, at the end.
        """
        async with self._stepping:
            in_doubt = self.jumps.is_in_doubt()
            steps: tuple[Callable[[], Awaitable[float]], ...] = (
                self._take_installed,
                partial(self._follow_upstream, by_clock=not in_doubt),
                *(partial(self._keep_kind, kind, by_clock=not in_doubt) for kind in KINDS),
            )
            seconds, failed = _LONGEST_SLEEP, []
            for step in steps:
                try:
                    seconds = min(seconds, await step())
                except MeshtlsError as error:
                    failed.append(error)
            if failed:
                raise failed[0]
            return seconds

    async def publish_upstream(self, published: Published) -> None:
        """Publish a JWT key above this server, if there is an upstream authority with such keys."""
        if self._upstream is not None:
            await self._upstream.publish_jwt(published)

    @property
    def _kept_here(self) -> tuple[str, ...]:
        """The kinds of which this server makes authorities of its own."""
        return KINDS if self._upstream is None else ("jwt",)

    def _check_not_ours(self, kind: str, wanted: str) -> None:
        if self._upstream is not None and kind == "x509":
            self._upstream.check_not_ours(wanted)

    async def _without_foreign(self, tx: AsyncConnection, kind: str, wanted: str) -> list[AuthorityRecord]:
        """The records, with the JWT key that is ``wanted`` retired where a server below has published it: how far its
        owner is with replacing it can't be seen from here.
        """
        found = []
        records = await self._locked(tx, kind)
        meant = with_id(records, wanted) if wanted else []
        for one in records:
            is_foreign = kind == "jwt" and one.server_id == DOWNSTREAM and one.state is AuthorityState.ACTIVE
            if is_foreign and meant == [one]:
                step = AuthorityStep.RETIRE
                one = await authorities.move(tx, self._hub.trust_domain, one, step, self._clock.now())
            found.append(one)
        return found

    async def _leave_upstream(self, tx: AsyncConnection) -> list[AuditRecord]:
        """What an upstream authority had that the configuration no longer names leaves after the last SVID."""
        acts = []
        for one in await authorities.locked_authorities(tx):
            if one.server_id != UPSTREAM or one.state not in (AuthorityState.ACTIVE, AuthorityState.PREPARED):
                continue
            step = AuthorityStep.RETIRE if one.state is AuthorityState.ACTIVE else AuthorityStep.REVOKE
            left = await authorities.move(tx, self._hub.trust_domain, one, step, self._clock.now())
            acts.append(self._act(left, "leave upstream", before=authority_state(one)))
        return acts

    async def _follow_jwt(self, upstream: UpstreamRotation) -> None:
        """Publish our keys above; replace the one that signs if it is tainted or revoked there."""
        bundle = upstream.bundle
        if bundle is None or bundle.keys is None:
            return
        mine = [one for one in await self._of("jwt") if self._is_mine(one)]
        gone = {one.id for one in mine if one.id in upstream.seen_above and one.id not in bundle.keys}
        for one in mine:
            if one.state not in (AuthorityState.PREPARED, AuthorityState.ACTIVE) or one.id in {*bundle.keys, *gone}:
                continue
            try:
                await upstream.publish_jwt(one.published)
            except ConflictError as error:  # it was revoked there, before this server was started
                log.warning("%s is refused upstream: %s", one, error)
                gone.add(one.id)
            except MeshtlsError as error:
                log.warning("%s can't be published upstream, trying again: %s", one, error)
        await self._take_back([one for one in mine if one.id in gone and one.state is not AuthorityState.ACTIVE])
        active = next((one for one in mine if one.state is AuthorityState.ACTIVE), None)
        if active is None or not (active.id in gone or (active.id in bundle.keys and bundle.keys[active.id].tainted)):
            return
        prepared = next((one for one in mine if one.state is AuthorityState.PREPARED and one.id not in gone), None)
        prepared = prepared or await self._prepare("jwt")
        if prepared.id not in bundle.keys:
            await upstream.publish_jwt(prepared.published)
        await self._activate("jwt", prepared.id, force=True)
        async with self._database.write() as tx:
            [old] = [one for one in await self._locked(tx, "jwt") if one.id == active.id]
            await self._take(tx, old, AuthorityStep.REVOKE if active.id in gone else AuthorityStep.TAINT)
        await self._told()

    async def _take_back(self, revoked: Sequence[AuthorityRecord]) -> None:
        """Revoke what was revoked above and does not sign."""
        for one in revoked:
            if one.state not in PUBLISHED:
                continue
            async with self._database.write() as tx:
                await self._take(tx, one, AuthorityStep.REVOKE)
            log.warning("%s is revoked upstream, and so here", one)
            await self._told()

    def _is_known_above(self, record: AuthorityRecord) -> bool:
        """Whether the servers above have this key of ours, where they have such keys."""
        bundle = self._upstream.bundle if self._upstream else None
        return bundle is None or bundle.keys is None or record.kind != "jwt" or record.id in bundle.keys

    async def _open(self, tx: AsyncConnection, kind: str) -> list[AuditRecord]:
        acts = []
        domain, now, server_id = self._hub.trust_domain, self._clock.now(), self._signing.server_id
        kept = self.keys.of(kind)
        known: dict[str, AuthorityRecord] = {}
        for one in await self._locked(tx, kind):
            if self._is_mine(one):
                known[one.id] = one
            elif one.id in kept:
                known[one.id] = await authorities.claim(tx, one, server_id)
                acts.append(self._act(one, "claim", before={"server_id": one.server_id}))
        for one in known.values():
            if one.id not in kept:
                acts += await self._give_up(tx, one, now)
        held = [one for one in known.values() if one.id in kept]
        signs = next((one.id for one in held if one.state is AuthorityState.ACTIVE), None)
        prepared = next((one for one in held if one.state is AuthorityState.PREPARED), None)
        if signs is None and prepared is not None:
            active = await authorities.move(tx, domain, prepared, AuthorityStep.ACTIVATE, now)
            acts.append(self._act(active, "activate", before=authority_state(prepared)))
            signs, prepared = prepared.id, None
        unknown = [one for one in kept if one not in known]
        if signs is None:
            signs = unknown.pop() if unknown else self.keys.new(kind)
            await bundles.publish(tx, domain, server_id, self.keys.published(kind, signs, now), now)
        for new in unknown:
            # A crash came between the storing of its key and its publication, or the store is another one.
            state = AuthorityState.OLD if prepared or not known else AuthorityState.PREPARED
            await bundles.publish(tx, domain, server_id, self.keys.published(kind, new, now), now, state)
        self._sign_with(kind, signs)
        return acts

    async def _give_up(self, tx: AsyncConnection, lost: AuthorityRecord, now: datetime) -> list[AuditRecord]:
        before = authority_state(lost)
        if lost.state is AuthorityState.ACTIVE:
            log.warning("%s is active, but its key is gone: another one signs from now on", lost)
            none, step = timedelta(0), AuthorityStep.RETIRE
            lost = await authorities.move(tx, self._hub.trust_domain, lost, step, now, signing_ends=none)
        elif lost.state is AuthorityState.PREPARED:
            lost = await authorities.move(tx, self._hub.trust_domain, lost, AuthorityStep.REVOKE, now)
        else:
            return []
        return [self._act(lost, "give up", before=before)]

    async def _prepare(self, kind: str, caller: Caller | None = None) -> AuthorityRecord:
        present = await self._of(kind)
        for one in present:
            if self._is_mine(one) and one.state is AuthorityState.PREPARED:
                raise ConflictError(f"{one} is prepared already; activate it, or revoke it to prepare another one")
        if self._unpublished.get(kind) in (None, *(one.id for one in present)):
            # In a thread: it takes a second to make an RSA key.
            self._unpublished[kind] = await asyncio.to_thread(self.keys.new, kind)
        return await self._publish(kind, self._unpublished[kind], caller)

    async def _publish(self, kind: str, new: str, caller: Caller | None = None) -> AuthorityRecord:
        now = self._clock.now()
        async with self._database.write() as tx:
            published = self.keys.published(kind, new, now)
            await bundles.publish(
                tx, self._hub.trust_domain, self._signing.server_id, published, now, AuthorityState.PREPARED
            )
            [record] = [one for one in await authorities.list_authorities(tx) if one.id == new]
            await self._record(tx, [self._act(record, "prepare", caller)])
        self._unpublished.pop(kind, None)
        log.info("%s is prepared: it is in the bundle, and signs once it is activated", record)
        await self._told()
        return record

    async def _activate(self, kind: str, wanted: str, *, force: bool, caller: Caller | None = None) -> AuthorityRecord:
        domain, now = self._hub.trust_domain, self._clock.now()
        async with self._database.write() as tx:
            mine = [one for one in await self._locked(tx, kind) if self._is_mine(one)]
            record = one_of(mine, wanted, kind, AuthorityStep.ACTIVATE)
            without = await agents.without_bundle(tx, record.revision, now)
            if not force:
                check_confirmed(record, without)
            if not force and not self._is_known_above(record):
                raise RequestError(
                    f"can't activate {record}: the upstream authority has not got it yet, and servers there would"
                    " refuse what it signs; wait, or give --force"
                )
            for one in mine:
                if one.state is AuthorityState.ACTIVE:
                    await authorities.move(tx, domain, one, AuthorityStep.RETIRE, now)
            record = await self._take(tx, record, AuthorityStep.ACTIVATE, caller)
        self._sign_with(kind, record.id)
        if without:
            log.warning("%s is active, though %s not confirmed the bundle with it", record, told_of(without))
        log.info("%s is active: it signs from now on", record)
        await self._told()
        return record

    async def _follow_upstream(self, *, by_clock: bool) -> float:
        if self._upstream is None:
            return _LONGEST_SLEEP
        seconds = await self._upstream.tick(by_clock=by_clock)
        await self._follow_jwt(self._upstream)
        return seconds

    async def _keep_kind(self, kind: str, *, by_clock: bool) -> float:
        records, seconds = await self._of(kind), _LONGEST_SLEEP
        if by_clock and kind in self._kept_here:
            seconds = await self._keep(kind, [one for one in records if self._is_mine(one)], self._clock.now())
        for one in records:
            # What signs is kept until there is another one, whatever has become of it.
            if one.state not in PUBLISHED and one.id != self._signs(kind):
                self.keys.drop(kind, one.id)
        return seconds

    async def _keep(self, kind: str, mine: Sequence[AuthorityRecord], now: datetime) -> float:
        active = next((one for one in mine if one.state is AuthorityState.ACTIVE), None)
        prepared = next((one for one in mine if one.state is AuthorityState.PREPARED), None)
        if not self.keys.makes(kind):
            self._ask_for_renewal()
            if prepared is None:
                return _LONGEST_SLEEP
        if active is None:  # it has expired while the server was stopped
            prepared = prepared or await self._prepare(kind)
            await self._activate(kind, prepared.id, force=True)
            return 0.0
        life = Life(active.created_at, active.ends_at)
        if prepared is None:
            if now < life.prepare_at:
                return (life.prepare_at - now).total_seconds()
            await self._prepare(kind)
            return 0.0
        if now < life.activate_at:
            return (life.activate_at - now).total_seconds()
        # A server that was stopped, or whose clock was set, may prepare it as late as this.
        anyway_at = max(life.activate_anyway_at, prepared.created_at + _CONFIRMED_WITHIN)
        overdue = now >= anyway_at
        async with self._database.read() as tx:
            without = await agents.without_bundle(tx, prepared.revision, now)
        if not overdue and not self._is_known_above(prepared):
            return _ABOVE_SECONDS
        if without and not overdue:
            if prepared.id not in self._late:
                self._late.add(prepared.id)
                log.warning("%s is due, but %s not confirmed the bundle with it yet", prepared, told_of(without))
            return (anyway_at - now).total_seconds()
        await self._activate(kind, prepared.id, force=overdue)
        return 0.0

    async def _take_installed(self) -> float:
        taken = self.keys.take_installed()
        if taken is not None:
            log.info("the CA that was installed is taken: it is below X.509 authority %s", taken)
            self._installed = taken
        if self._installed is None:
            return _LONGEST_SLEEP
        known = next((one for one in await self._of("x509") if one.id == self._installed), None)
        if known is None:
            await self._publish("x509", self._installed)
        else:
            async with self._database.write() as tx:
                await self._record(tx, [self._act(known, "install CA of")])
            if self._installed == self._signing.authority.id:
                self._sign_with("x509", self._installed)
        self._installed = None
        return _LONGEST_SLEEP

    def _ask_for_renewal(self) -> None:
        authority = self._signing.authority
        if not isinstance(authority, Authority):
            return
        present = authority.intermediate.certificate
        if authority.wants_renewal and (serial := format_serial(present)) not in self._late:
            self._late.add(serial)
            log.warning(
                "the CA %s ends at %s, and its root is offline: request the next one with `meshtls ca csr`",
                serial,
                format_moment(present.not_valid_after_utc),
            )

    async def _take(
        self, tx: AsyncConnection, record: AuthorityRecord, step: AuthorityStep, caller: Caller | None = None
    ) -> AuthorityRecord:
        """Take this step and record it, as the last one of ``tx``."""
        taken = await authorities.move(tx, self._hub.trust_domain, record, step, self._clock.now())
        await self._record(tx, [self._act(taken, step.name.lower(), caller, authority_state(record))])
        return taken

    async def _record(self, tx: AsyncConnection, acts: Sequence[AuditRecord]) -> None:
        """Append what is new to the transparency log, and these acts to the audit trail, as the last step of ``tx``."""
        await self._ledger.record_authorities(tx, self._signing.server_id, str(self._hub.trust_domain.id))
        await self._ledger.trail.append(tx, acts)

    def _act(
        self,
        record: AuthorityRecord,
        act: str,
        caller: Caller | None = None,
        before: Mapping[str, str] | None = None,
    ) -> AuditRecord:
        after = authority_state(record)
        return self._ledger.trail.record(caller, f"{act} authority", record, before=before, after=after)

    def _sign_with(self, kind: str, authority_id: str) -> None:
        if kind == "jwt":
            self._signing.jwt_key = self.keys.jwt[authority_id]
        else:
            self._signing.authority = self.keys.x509[authority_id]

    def _signs(self, kind: str) -> str:
        return self._signing.jwt_key.kid if kind == "jwt" else self._signing.authority.id

    def _is_mine(self, record: AuthorityRecord) -> bool:
        return record.server_id == self._signing.server_id

    async def _of(self, kind: str) -> list[AuthorityRecord]:
        async with self._database.read() as tx:
            return [one for one in await authorities.list_authorities(tx) if one.kind == kind]

    async def _locked(self, tx: AsyncConnection, kind: str) -> list[AuthorityRecord]:
        return [one for one in await authorities.locked_authorities(tx) if one.kind == kind]

    async def _told(self) -> None:
        await self._hub.written()
        self.changed.set()
