"""Conversion between the server API's messages about federation and our values, for client and server.

A message that can't be converted raises RequestError.
"""

from __future__ import annotations

from meshtls.bundle import TrustBundle
from meshtls.errors import RequestError
from meshtls.proto import server_pb
from meshtls.scalars import shown
from meshtls.serverapi.federation import Profile, Relation, RelationStatus
from meshtls.serverapi.messages import bundle_message, bundle_of, moment, seconds
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["relation_message", "relation_of", "request_of", "status_message", "status_of"]


def relation_message(relation: Relation) -> server_pb.Relation:
    return server_pb.Relation(
        trust_domain=str(relation.trust_domain),
        url=relation.url,
        profile=relation.profile.value,
        endpoint_id=str(relation.endpoint_id or ""),
    )


def relation_of(message: server_pb.Relation) -> Relation:
    profiles = {one.value: one for one in Profile}
    if message.profile not in profiles:
        raise RequestError(f"profile: wanted {' or '.join(profiles)}, got {shown(message.profile)}")
    return Relation(
        trust_domain=TrustDomain.parse(message.trust_domain),
        url=message.url,
        profile=profiles[message.profile],
        endpoint_id=SpiffeId.parse(message.endpoint_id) if message.endpoint_id else None,
    )


def request_of(message: server_pb.CreateRelationRequest) -> tuple[Relation, TrustBundle | None]:
    """A relation, and the bundle to begin with."""
    relation = relation_of(message.relation)
    return relation, bundle_of(message.bundle) if message.bundle.document else None


def status_message(status: RelationStatus) -> server_pb.RelationStatus:
    return server_pb.RelationStatus(
        relation=relation_message(status.relation),
        configured=status.configured,
        bundle=None if status.bundle is None else bundle_message(status.bundle),
        fetched_at=seconds(status.fetched_at),
        next_at=seconds(status.next_at),
        failure=status.failure,
    )


def status_of(message: server_pb.RelationStatus) -> RelationStatus:
    return RelationStatus(
        relation=relation_of(message.relation),
        configured=message.configured,
        bundle=bundle_of(message.bundle) if message.bundle.document else None,
        fetched_at=moment(message.fetched_at) if message.fetched_at else None,
        next_at=moment(message.next_at) if message.next_at else None,
        failure=message.failure,
    )
