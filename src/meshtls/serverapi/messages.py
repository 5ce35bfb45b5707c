"""Conversion between the server API's messages and our values, for client and server.

A message that can't be converted raises RequestError.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import InvalidSpiffeIdError, InvalidSvidError, RequestError
from meshtls.proto import server_pb
from meshtls.registration import AgentRecord, Entry, EntryFilter, Issuance, Selector
from meshtls.scalars import shown
from meshtls.serverapi.values import (
    AuthorityStatus,
    Block,
    Health,
    Holders,
    JoinToken,
    Revoked,
    RevokedSvid,
    Subject,
    SubjectKind,
    SyncUpdate,
)
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.jwt import JwtSvid
from meshtls.svid.x509 import parse_chain

__all__ = [
    "agent_message",
    "agent_of",
    "authority_message",
    "authority_of",
    "block_message",
    "block_of",
    "bundle_message",
    "bundle_of",
    "chain_of",
    "entry_message",
    "entry_of",
    "filter_message",
    "filter_of",
    "health_message",
    "health_of",
    "issuance_message",
    "issuance_of",
    "join_token_message",
    "join_token_of",
    "moment",
    "revoked_message",
    "revoked_of",
    "revoked_svid_message",
    "revoked_svid_of",
    "seconds",
    "subject_message",
    "subject_of",
    "svid_message",
    "token_message",
    "update_message",
    "update_of",
]

#: In the year 9999, the last that a datetime has.
_MOST_MS = 253_402_300_799_000


def seconds(when: datetime | None) -> int:
    return 0 if when is None else int(when.timestamp())


def moment(stamp: int) -> datetime:
    try:
        return datetime.fromtimestamp(stamp, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise RequestError(f"time {stamp}: wanted seconds since 1970 of a year up to 9999") from error


def entry_message(entry: Entry) -> server_pb.Entry:
    return server_pb.Entry(
        id=entry.id,
        spiffe_id=str(entry.spiffe_id),
        parent_id=str(entry.parent_id),
        selectors=_selector_messages(entry.selectors),
        x509_svid_ttl=entry.x509_svid_ttl,
        jwt_svid_ttl=entry.jwt_svid_ttl,
        federates_with=map(str, entry.federates_with),
        dns_names=entry.dns_names,
        hint=entry.hint,
        admin=entry.admin,
        downstream=entry.downstream,
        expires_at=seconds(entry.expires_at),
        revision=entry.revision,
        created=entry.created,
    )


def entry_of(message: server_pb.Entry) -> Entry:
    return Entry(
        id=message.id,
        spiffe_id=SpiffeId.parse(message.spiffe_id),
        parent_id=SpiffeId.parse(message.parent_id),
        selectors=_selectors(message.selectors),
        x509_svid_ttl=message.x509_svid_ttl,
        jwt_svid_ttl=message.jwt_svid_ttl,
        federates_with=tuple(map(TrustDomain.parse, message.federates_with)),
        dns_names=tuple(message.dns_names),
        hint=message.hint,
        admin=message.admin,
        downstream=message.downstream,
        expires_at=moment(message.expires_at) if message.expires_at else None,
        revision=message.revision,
        created=message.created,
    )


def filter_message(wanted: EntryFilter) -> server_pb.EntryFilter:
    return server_pb.EntryFilter(
        spiffe_id=str(wanted.spiffe_id or ""),
        parent_id=str(wanted.parent_id or ""),
        selectors=_selector_messages(wanted.selectors),
        hint=wanted.hint or "",
    )


def filter_of(message: server_pb.EntryFilter) -> EntryFilter:
    return EntryFilter(
        SpiffeId.parse(message.spiffe_id) if message.spiffe_id else None,
        SpiffeId.parse(message.parent_id) if message.parent_id else None,
        _selectors(message.selectors),
        message.hint or None,
    )


def agent_message(agent: AgentRecord) -> server_pb.Agent:
    return server_pb.Agent(
        spiffe_id=str(agent.spiffe_id),
        type=agent.type,
        serials=agent.serials,
        not_after=seconds(agent.not_after),
        attested_at=seconds(agent.attested_at),
        banned=agent.banned,
        selectors=_selector_messages(agent.selectors),
    )


def agent_of(message: server_pb.Agent) -> AgentRecord:
    return AgentRecord(
        spiffe_id=SpiffeId.parse(message.spiffe_id),
        type=message.type,
        serials=tuple(message.serials),
        not_after=moment(message.not_after),
        attested_at=moment(message.attested_at),
        banned=message.banned,
        selectors=_selectors(message.selectors),
    )


def issuance_message(one: Issuance) -> server_pb.Issuance:
    return server_pb.Issuance(
        number=one.number,
        kind=one.kind,
        serial=one.serial,
        spiffe_id=str(one.spiffe_id),
        agent_id=str(one.agent_id or ""),
        entry_id=one.entry_id or "",
        server_id=one.server_id,
        issued_at=seconds(one.issued_at),
        not_before=seconds(one.not_before),
        not_after=seconds(one.not_after),
    )


def issuance_of(message: server_pb.Issuance) -> Issuance:
    return Issuance(
        number=message.number,
        kind=message.kind,
        serial=message.serial,
        spiffe_id=SpiffeId.parse(message.spiffe_id),
        agent_id=SpiffeId.parse(message.agent_id) if message.agent_id else None,
        entry_id=message.entry_id or None,
        server_id=message.server_id,
        issued_at=moment(message.issued_at),
        not_before=moment(message.not_before),
        not_after=moment(message.not_after),
    )


def bundle_message(bundle: TrustBundle) -> server_pb.Bundle:
    return server_pb.Bundle(trust_domain=str(bundle.trust_domain), document=bundle.to_jwks())


def bundle_of(message: server_pb.Bundle) -> TrustBundle:
    return TrustBundle.from_jwks(TrustDomain.parse(message.trust_domain), message.document)


def bundles_of(messages: Iterable[server_pb.Bundle]) -> BundleSet:
    """The bundles, each read by itself: no peer is trusted in a trust domain whose document is unreadable."""
    found, nameless = [], []
    for message in messages:
        try:
            trust_domain = TrustDomain.parse(message.trust_domain)
        except InvalidSpiffeIdError as error:
            nameless.append(f"bundle of the server: {error}")
            continue
        found.append(TrustBundle.from_jwks_of_many(trust_domain, message.document))
    return BundleSet(found, nameless)


def svid_message(spiffe_id: SpiffeId, chain: Iterable[x509.Certificate], entry_id: str = "") -> server_pb.X509Svid:
    leaf, *rest = chain
    return server_pb.X509Svid(
        spiffe_id=str(spiffe_id),
        chain=[one.public_bytes(Encoding.DER) for one in (leaf, *rest)],
        expires_at=seconds(leaf.not_valid_after_utc),
        entry_id=entry_id,
    )


def token_message(svid: JwtSvid) -> server_pb.JwtSvid:
    return server_pb.JwtSvid(
        spiffe_id=str(svid.spiffe_id),
        token=svid.token,
        issued_at=seconds(svid.issued_at),
        expires_at=seconds(svid.expiry),
    )


def chain_of(message: server_pb.X509Svid) -> tuple[x509.Certificate, ...]:
    try:
        return parse_chain(message.chain)
    except InvalidSvidError as error:
        raise RequestError(f"the server's answer for {message.spiffe_id}: {error}") from error


def join_token_message(made: JoinToken) -> server_pb.JoinToken:
    return server_pb.JoinToken(token=made.token, agent_id=str(made.agent_id), expires_at=seconds(made.expires_at))


def join_token_of(message: server_pb.JoinToken) -> JoinToken:
    return JoinToken(message.token, SpiffeId.parse(message.agent_id), moment(message.expires_at))


def health_message(health: Health) -> server_pb.HealthStatus:
    return server_pb.HealthStatus(
        ready=health.ready,
        waiting_for=health.waiting_for,
        trust_domain=health.trust_domain,
        server_id=health.server_id,
        version=health.version,
        revision=health.revision,
        entries=health.entries,
        agents_connected=health.agents_connected,
        clock_ms=int(health.clock.timestamp() * 1000) if health.clock is not None else 0,
        troubles=health.troubles,
    )


def health_of(message: server_pb.HealthStatus) -> Health:
    return Health(
        ready=message.ready,
        waiting_for=message.waiting_for,
        trust_domain=message.trust_domain,
        server_id=message.server_id,
        version=message.version,
        revision=message.revision,
        entries=message.entries,
        agents_connected=message.agents_connected,
        clock=datetime.fromtimestamp(message.clock_ms / 1000, UTC) if 0 < message.clock_ms < _MOST_MS else None,
        troubles=tuple(message.troubles),
    )


def update_message(update: SyncUpdate) -> server_pb.SyncResponse:
    return server_pb.SyncResponse(
        revision=update.revision,
        whole=update.whole,
        entries=map(entry_message, update.entries),
        removed=update.removed,
        bundles=map(bundle_message, update.bundles or ()),
        tainted=update.tainted,
        crls=update.crls,
    )


def update_of(message: server_pb.SyncResponse) -> SyncUpdate:
    return SyncUpdate(
        revision=message.revision,
        whole=message.whole,
        entries=tuple(map(entry_of, message.entries)),
        removed=tuple(message.removed),
        bundles=bundles_of(message.bundles) if message.bundles else None,
        tainted=tuple(message.tainted),
        crls=tuple(message.crls),
    )


def authority_message(one: AuthorityStatus) -> server_pb.Authority:
    return server_pb.Authority(
        kind=one.kind,
        id=one.id,
        state=one.state,
        server_id=one.server_id,
        created_at=seconds(one.created_at),
        changed_at=seconds(one.changed_at),
        ends_at=seconds(one.ends_at),
        leaves_at=seconds(one.leaves_at),
        holders=[
            server_pb.Holders(
                agent_id=str(held.agent_id or ""), count=held.count, until=seconds(held.until), cas=held.cas
            )
            for held in one.holders
        ],
        waiting_for=map(str, one.waiting_for),
        revocable_at=seconds(one.revocable_at),
    )


def authority_of(message: server_pb.Authority) -> AuthorityStatus:
    return AuthorityStatus(
        kind=message.kind,
        id=message.id,
        state=message.state,
        server_id=message.server_id,
        created_at=moment(message.created_at) if message.created_at else None,
        changed_at=moment(message.changed_at) if message.changed_at else None,
        ends_at=moment(message.ends_at),
        leaves_at=moment(message.leaves_at),
        holders=tuple(
            Holders(SpiffeId.parse(held.agent_id) if held.agent_id else None, held.count, moment(held.until), held.cas)
            for held in message.holders
        ),
        waiting_for=tuple(map(SpiffeId.parse, message.waiting_for)),
        revocable_at=moment(message.revocable_at) if message.revocable_at else None,
    )


def subject_message(subject: Subject) -> server_pb.RevocationSubject:
    return server_pb.RevocationSubject(kind=subject.kind.value, name=subject.name)


def subject_of(message: server_pb.RevocationSubject) -> Subject:
    try:
        return Subject(SubjectKind(message.kind), message.name)
    except ValueError as error:
        wanted = ", ".join(one.value for one in SubjectKind)
        raise RequestError(f"kind of subject: wanted one of {wanted}, got {shown(message.kind)}") from error


def revoked_message(revoked: Revoked) -> server_pb.Revoked:
    return server_pb.Revoked(
        certificates=revoked.certificates,
        tokens=revoked.tokens,
        of_other_servers=revoked.of_other_servers,
        cas=revoked.cas,
    )


def revoked_of(message: server_pb.Revoked) -> Revoked:
    return Revoked(message.certificates, message.tokens, message.of_other_servers, message.cas)


def block_message(one: Block) -> server_pb.Block:
    return server_pb.Block(subject=subject_message(one.subject), reason=one.reason, since=seconds(one.since))


def block_of(message: server_pb.Block) -> Block:
    return Block(subject_of(message.subject), message.reason, moment(message.since))


def revoked_svid_message(one: RevokedSvid) -> server_pb.RevokedSvid:
    return server_pb.RevokedSvid(
        number=one.number,
        kind=one.kind,
        serial=one.serial,
        spiffe_id=str(one.spiffe_id),
        server_id=one.server_id,
        not_after=seconds(one.not_after),
        revoked_at=seconds(one.revoked_at),
        reason=one.reason,
    )


def revoked_svid_of(message: server_pb.RevokedSvid) -> RevokedSvid:
    return RevokedSvid(
        number=message.number,
        kind=message.kind,
        serial=message.serial,
        spiffe_id=SpiffeId.parse(message.spiffe_id),
        server_id=message.server_id,
        not_after=moment(message.not_after),
        revoked_at=moment(message.revoked_at) if message.revoked_at else None,
        reason=message.reason,
    )


def _selector_messages(selectors: Iterable[Selector]) -> list[server_pb.Selector]:
    return [server_pb.Selector(type=one.type, value=one.value) for one in selectors]


def _selectors(messages: Iterable[server_pb.Selector]) -> tuple[Selector, ...]:
    return tuple(Selector(one.type, one.value) for one in messages)
