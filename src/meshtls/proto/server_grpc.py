# Generated from server.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from __future__ import annotations

import abc

from grpclib.client import Channel, StreamStreamMethod, StreamUnaryMethod
from grpclib.client import UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

import meshtls.proto.server_pb as server_pb


class AttestationBase(abc.ABC):
    @abc.abstractmethod
    async def AttestAgent(self, stream: Stream[server_pb.AttestRequest, server_pb.AttestResponse]) -> None: ...

    @abc.abstractmethod
    async def GetBundle(self, stream: Stream[server_pb.GetBundleRequest, server_pb.Bundle]) -> None: ...

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/meshtls.server.v1.Attestation/AttestAgent": Handler(self.AttestAgent, Cardinality.STREAM_STREAM, server_pb.AttestRequest, server_pb.AttestResponse),
            "/meshtls.server.v1.Attestation/GetBundle": Handler(self.GetBundle, Cardinality.UNARY_UNARY, server_pb.GetBundleRequest, server_pb.Bundle),
        }


class AttestationStub:
    def __init__(self, channel: Channel) -> None:
        self.AttestAgent = StreamStreamMethod(channel, "/meshtls.server.v1.Attestation/AttestAgent", server_pb.AttestRequest, server_pb.AttestResponse)
        self.GetBundle = UnaryUnaryMethod(channel, "/meshtls.server.v1.Attestation/GetBundle", server_pb.GetBundleRequest, server_pb.Bundle)


class NodeBase(abc.ABC):
    @abc.abstractmethod
    async def RenewAgent(self, stream: Stream[server_pb.RenewAgentRequest, server_pb.X509Svid]) -> None: ...

    @abc.abstractmethod
    async def SignX509(self, stream: Stream[server_pb.SignX509Request, server_pb.SignX509Response]) -> None: ...

    @abc.abstractmethod
    async def SignJwt(self, stream: Stream[server_pb.SignJwtRequest, server_pb.JwtSvid]) -> None: ...

    @abc.abstractmethod
    async def Sync(self, stream: Stream[server_pb.SyncRequest, server_pb.SyncResponse]) -> None: ...

    @abc.abstractmethod
    async def ConfirmBundle(self, stream: Stream[server_pb.ConfirmBundleRequest, server_pb.Done]) -> None: ...

    @abc.abstractmethod
    async def GetBundle(self, stream: Stream[server_pb.GetBundleRequest, server_pb.Bundle]) -> None: ...

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/meshtls.server.v1.Node/RenewAgent": Handler(self.RenewAgent, Cardinality.UNARY_UNARY, server_pb.RenewAgentRequest, server_pb.X509Svid),
            "/meshtls.server.v1.Node/SignX509": Handler(self.SignX509, Cardinality.UNARY_UNARY, server_pb.SignX509Request, server_pb.SignX509Response),
            "/meshtls.server.v1.Node/SignJwt": Handler(self.SignJwt, Cardinality.UNARY_UNARY, server_pb.SignJwtRequest, server_pb.JwtSvid),
            "/meshtls.server.v1.Node/Sync": Handler(self.Sync, Cardinality.UNARY_STREAM, server_pb.SyncRequest, server_pb.SyncResponse),
            "/meshtls.server.v1.Node/ConfirmBundle": Handler(self.ConfirmBundle, Cardinality.UNARY_UNARY, server_pb.ConfirmBundleRequest, server_pb.Done),
            "/meshtls.server.v1.Node/GetBundle": Handler(self.GetBundle, Cardinality.UNARY_UNARY, server_pb.GetBundleRequest, server_pb.Bundle),
        }


class NodeStub:
    def __init__(self, channel: Channel) -> None:
        self.RenewAgent = UnaryUnaryMethod(channel, "/meshtls.server.v1.Node/RenewAgent", server_pb.RenewAgentRequest, server_pb.X509Svid)
        self.SignX509 = UnaryUnaryMethod(channel, "/meshtls.server.v1.Node/SignX509", server_pb.SignX509Request, server_pb.SignX509Response)
        self.SignJwt = UnaryUnaryMethod(channel, "/meshtls.server.v1.Node/SignJwt", server_pb.SignJwtRequest, server_pb.JwtSvid)
        self.Sync = UnaryStreamMethod(channel, "/meshtls.server.v1.Node/Sync", server_pb.SyncRequest, server_pb.SyncResponse)
        self.ConfirmBundle = UnaryUnaryMethod(channel, "/meshtls.server.v1.Node/ConfirmBundle", server_pb.ConfirmBundleRequest, server_pb.Done)
        self.GetBundle = UnaryUnaryMethod(channel, "/meshtls.server.v1.Node/GetBundle", server_pb.GetBundleRequest, server_pb.Bundle)


class EntriesBase(abc.ABC):
    @abc.abstractmethod
    async def CreateEntries(self, stream: Stream[server_pb.CreateEntriesRequest, server_pb.EntryList]) -> None: ...

    @abc.abstractmethod
    async def GetEntry(self, stream: Stream[server_pb.EntryId, server_pb.Entry]) -> None: ...

    @abc.abstractmethod
    async def ListEntries(self, stream: Stream[server_pb.ListEntriesRequest, server_pb.EntryList]) -> None: ...

    @abc.abstractmethod
    async def UpdateEntry(self, stream: Stream[server_pb.Entry, server_pb.Entry]) -> None: ...

    @abc.abstractmethod
    async def UpdateEntries(self, stream: Stream[server_pb.EntryList, server_pb.EntryList]) -> None: ...

    @abc.abstractmethod
    async def DeleteEntries(self, stream: Stream[server_pb.DeleteEntriesRequest, server_pb.Done]) -> None: ...

    @abc.abstractmethod
    async def CountEntries(self, stream: Stream[server_pb.EntryFilter, server_pb.Count]) -> None: ...

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/meshtls.server.v1.Entries/CreateEntries": Handler(self.CreateEntries, Cardinality.UNARY_UNARY, server_pb.CreateEntriesRequest, server_pb.EntryList),
            "/meshtls.server.v1.Entries/GetEntry": Handler(self.GetEntry, Cardinality.UNARY_UNARY, server_pb.EntryId, server_pb.Entry),
            "/meshtls.server.v1.Entries/ListEntries": Handler(self.ListEntries, Cardinality.UNARY_UNARY, server_pb.ListEntriesRequest, server_pb.EntryList),
            "/meshtls.server.v1.Entries/UpdateEntry": Handler(self.UpdateEntry, Cardinality.UNARY_UNARY, server_pb.Entry, server_pb.Entry),
            "/meshtls.server.v1.Entries/UpdateEntries": Handler(self.UpdateEntries, Cardinality.UNARY_UNARY, server_pb.EntryList, server_pb.EntryList),
            "/meshtls.server.v1.Entries/DeleteEntries": Handler(self.DeleteEntries, Cardinality.UNARY_UNARY, server_pb.DeleteEntriesRequest, server_pb.Done),
            "/meshtls.server.v1.Entries/CountEntries": Handler(self.CountEntries, Cardinality.UNARY_UNARY, server_pb.EntryFilter, server_pb.Count),
        }


class EntriesStub:
    def __init__(self, channel: Channel) -> None:
        self.CreateEntries = UnaryUnaryMethod(channel, "/meshtls.server.v1.Entries/CreateEntries", server_pb.CreateEntriesRequest, server_pb.EntryList)
        self.GetEntry = UnaryUnaryMethod(channel, "/meshtls.server.v1.Entries/GetEntry", server_pb.EntryId, server_pb.Entry)
        self.ListEntries = UnaryUnaryMethod(channel, "/meshtls.server.v1.Entries/ListEntries", server_pb.ListEntriesRequest, server_pb.EntryList)
        self.UpdateEntry = UnaryUnaryMethod(channel, "/meshtls.server.v1.Entries/UpdateEntry", server_pb.Entry, server_pb.Entry)
        self.UpdateEntries = UnaryUnaryMethod(channel, "/meshtls.server.v1.Entries/UpdateEntries", server_pb.EntryList, server_pb.EntryList)
        self.DeleteEntries = UnaryUnaryMethod(channel, "/meshtls.server.v1.Entries/DeleteEntries", server_pb.DeleteEntriesRequest, server_pb.Done)
        self.CountEntries = UnaryUnaryMethod(channel, "/meshtls.server.v1.Entries/CountEntries", server_pb.EntryFilter, server_pb.Count)


class AgentsBase(abc.ABC):
    @abc.abstractmethod
    async def CreateJoinToken(self, stream: Stream[server_pb.CreateJoinTokenRequest, server_pb.JoinToken]) -> None: ...

    @abc.abstractmethod
    async def GetAgent(self, stream: Stream[server_pb.AgentId, server_pb.Agent]) -> None: ...

    @abc.abstractmethod
    async def ListAgents(self, stream: Stream[server_pb.ListAgentsRequest, server_pb.AgentList]) -> None: ...

    @abc.abstractmethod
    async def BanAgent(self, stream: Stream[server_pb.AgentId, server_pb.Done]) -> None: ...

    @abc.abstractmethod
    async def EvictAgent(self, stream: Stream[server_pb.AgentId, server_pb.Done]) -> None: ...

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/meshtls.server.v1.Agents/CreateJoinToken": Handler(self.CreateJoinToken, Cardinality.UNARY_UNARY, server_pb.CreateJoinTokenRequest, server_pb.JoinToken),
            "/meshtls.server.v1.Agents/GetAgent": Handler(self.GetAgent, Cardinality.UNARY_UNARY, server_pb.AgentId, server_pb.Agent),
            "/meshtls.server.v1.Agents/ListAgents": Handler(self.ListAgents, Cardinality.UNARY_UNARY, server_pb.ListAgentsRequest, server_pb.AgentList),
            "/meshtls.server.v1.Agents/BanAgent": Handler(self.BanAgent, Cardinality.UNARY_UNARY, server_pb.AgentId, server_pb.Done),
            "/meshtls.server.v1.Agents/EvictAgent": Handler(self.EvictAgent, Cardinality.UNARY_UNARY, server_pb.AgentId, server_pb.Done),
        }


class AgentsStub:
    def __init__(self, channel: Channel) -> None:
        self.CreateJoinToken = UnaryUnaryMethod(channel, "/meshtls.server.v1.Agents/CreateJoinToken", server_pb.CreateJoinTokenRequest, server_pb.JoinToken)
        self.GetAgent = UnaryUnaryMethod(channel, "/meshtls.server.v1.Agents/GetAgent", server_pb.AgentId, server_pb.Agent)
        self.ListAgents = UnaryUnaryMethod(channel, "/meshtls.server.v1.Agents/ListAgents", server_pb.ListAgentsRequest, server_pb.AgentList)
        self.BanAgent = UnaryUnaryMethod(channel, "/meshtls.server.v1.Agents/BanAgent", server_pb.AgentId, server_pb.Done)
        self.EvictAgent = UnaryUnaryMethod(channel, "/meshtls.server.v1.Agents/EvictAgent", server_pb.AgentId, server_pb.Done)


class SvidsBase(abc.ABC):
    @abc.abstractmethod
    async def MintX509(self, stream: Stream[server_pb.MintX509Request, server_pb.X509Svid]) -> None: ...

    @abc.abstractmethod
    async def MintJwt(self, stream: Stream[server_pb.MintJwtRequest, server_pb.JwtSvid]) -> None: ...

    @abc.abstractmethod
    async def ListIssuances(self, stream: Stream[server_pb.ListIssuancesRequest, server_pb.IssuanceList]) -> None: ...

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/meshtls.server.v1.Svids/MintX509": Handler(self.MintX509, Cardinality.UNARY_UNARY, server_pb.MintX509Request, server_pb.X509Svid),
            "/meshtls.server.v1.Svids/MintJwt": Handler(self.MintJwt, Cardinality.UNARY_UNARY, server_pb.MintJwtRequest, server_pb.JwtSvid),
            "/meshtls.server.v1.Svids/ListIssuances": Handler(self.ListIssuances, Cardinality.UNARY_UNARY, server_pb.ListIssuancesRequest, server_pb.IssuanceList),
        }


class SvidsStub:
    def __init__(self, channel: Channel) -> None:
        self.MintX509 = UnaryUnaryMethod(channel, "/meshtls.server.v1.Svids/MintX509", server_pb.MintX509Request, server_pb.X509Svid)
        self.MintJwt = UnaryUnaryMethod(channel, "/meshtls.server.v1.Svids/MintJwt", server_pb.MintJwtRequest, server_pb.JwtSvid)
        self.ListIssuances = UnaryUnaryMethod(channel, "/meshtls.server.v1.Svids/ListIssuances", server_pb.ListIssuancesRequest, server_pb.IssuanceList)


class BundlesBase(abc.ABC):
    @abc.abstractmethod
    async def GetBundle(self, stream: Stream[server_pb.GetBundleRequest, server_pb.Bundle]) -> None: ...

    @abc.abstractmethod
    async def ListBundles(self, stream: Stream[server_pb.ListBundlesRequest, server_pb.BundleList]) -> None: ...

    @abc.abstractmethod
    async def SetBundle(self, stream: Stream[server_pb.Bundle, server_pb.Done]) -> None: ...

    @abc.abstractmethod
    async def DeleteBundle(self, stream: Stream[server_pb.BundleId, server_pb.Done]) -> None: ...

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/meshtls.server.v1.Bundles/GetBundle": Handler(self.GetBundle, Cardinality.UNARY_UNARY, server_pb.GetBundleRequest, server_pb.Bundle),
            "/meshtls.server.v1.Bundles/ListBundles": Handler(self.ListBundles, Cardinality.UNARY_UNARY, server_pb.ListBundlesRequest, server_pb.BundleList),
            "/meshtls.server.v1.Bundles/SetBundle": Handler(self.SetBundle, Cardinality.UNARY_UNARY, server_pb.Bundle, server_pb.Done),
            "/meshtls.server.v1.Bundles/DeleteBundle": Handler(self.DeleteBundle, Cardinality.UNARY_UNARY, server_pb.BundleId, server_pb.Done),
        }


class BundlesStub:
    def __init__(self, channel: Channel) -> None:
        self.GetBundle = UnaryUnaryMethod(channel, "/meshtls.server.v1.Bundles/GetBundle", server_pb.GetBundleRequest, server_pb.Bundle)
        self.ListBundles = UnaryUnaryMethod(channel, "/meshtls.server.v1.Bundles/ListBundles", server_pb.ListBundlesRequest, server_pb.BundleList)
        self.SetBundle = UnaryUnaryMethod(channel, "/meshtls.server.v1.Bundles/SetBundle", server_pb.Bundle, server_pb.Done)
        self.DeleteBundle = UnaryUnaryMethod(channel, "/meshtls.server.v1.Bundles/DeleteBundle", server_pb.BundleId, server_pb.Done)


class FederationBase(abc.ABC):
    @abc.abstractmethod
    async def CreateRelation(self, stream: Stream[server_pb.CreateRelationRequest, server_pb.RelationStatus]) -> None: ...

    @abc.abstractmethod
    async def ListRelations(self, stream: Stream[server_pb.ListRelationsRequest, server_pb.RelationList]) -> None: ...

    @abc.abstractmethod
    async def UpdateRelation(self, stream: Stream[server_pb.CreateRelationRequest, server_pb.RelationStatus]) -> None: ...

    @abc.abstractmethod
    async def DeleteRelation(self, stream: Stream[server_pb.DeleteRelationRequest, server_pb.Done]) -> None: ...

    @abc.abstractmethod
    async def RefreshRelation(self, stream: Stream[server_pb.BundleId, server_pb.RelationStatus]) -> None: ...

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/meshtls.server.v1.Federation/CreateRelation": Handler(self.CreateRelation, Cardinality.UNARY_UNARY, server_pb.CreateRelationRequest, server_pb.RelationStatus),
            "/meshtls.server.v1.Federation/ListRelations": Handler(self.ListRelations, Cardinality.UNARY_UNARY, server_pb.ListRelationsRequest, server_pb.RelationList),
            "/meshtls.server.v1.Federation/UpdateRelation": Handler(self.UpdateRelation, Cardinality.UNARY_UNARY, server_pb.CreateRelationRequest, server_pb.RelationStatus),
            "/meshtls.server.v1.Federation/DeleteRelation": Handler(self.DeleteRelation, Cardinality.UNARY_UNARY, server_pb.DeleteRelationRequest, server_pb.Done),
            "/meshtls.server.v1.Federation/RefreshRelation": Handler(self.RefreshRelation, Cardinality.UNARY_UNARY, server_pb.BundleId, server_pb.RelationStatus),
        }


class FederationStub:
    def __init__(self, channel: Channel) -> None:
        self.CreateRelation = UnaryUnaryMethod(channel, "/meshtls.server.v1.Federation/CreateRelation", server_pb.CreateRelationRequest, server_pb.RelationStatus)
        self.ListRelations = UnaryUnaryMethod(channel, "/meshtls.server.v1.Federation/ListRelations", server_pb.ListRelationsRequest, server_pb.RelationList)
        self.UpdateRelation = UnaryUnaryMethod(channel, "/meshtls.server.v1.Federation/UpdateRelation", server_pb.CreateRelationRequest, server_pb.RelationStatus)
        self.DeleteRelation = UnaryUnaryMethod(channel, "/meshtls.server.v1.Federation/DeleteRelation", server_pb.DeleteRelationRequest, server_pb.Done)
        self.RefreshRelation = UnaryUnaryMethod(channel, "/meshtls.server.v1.Federation/RefreshRelation", server_pb.BundleId, server_pb.RelationStatus)


class LogBase(abc.ABC):
    @abc.abstractmethod
    async def ReadLog(self, stream: Stream[server_pb.ReadLogRequest, server_pb.LogResource]) -> None: ...

    @abc.abstractmethod
    async def ListAudit(self, stream: Stream[server_pb.ListAuditRequest, server_pb.AuditList]) -> None: ...

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/meshtls.server.v1.Log/ReadLog": Handler(self.ReadLog, Cardinality.UNARY_UNARY, server_pb.ReadLogRequest, server_pb.LogResource),
            "/meshtls.server.v1.Log/ListAudit": Handler(self.ListAudit, Cardinality.UNARY_UNARY, server_pb.ListAuditRequest, server_pb.AuditList),
        }


class LogStub:
    def __init__(self, channel: Channel) -> None:
        self.ReadLog = UnaryUnaryMethod(channel, "/meshtls.server.v1.Log/ReadLog", server_pb.ReadLogRequest, server_pb.LogResource)
        self.ListAudit = UnaryUnaryMethod(channel, "/meshtls.server.v1.Log/ListAudit", server_pb.ListAuditRequest, server_pb.AuditList)


class RevocationsBase(abc.ABC):
    @abc.abstractmethod
    async def Revoke(self, stream: Stream[server_pb.RevokeRequest, server_pb.Revoked]) -> None: ...

    @abc.abstractmethod
    async def Readmit(self, stream: Stream[server_pb.RevocationSubject, server_pb.Revoked]) -> None: ...

    @abc.abstractmethod
    async def ListRevocations(self, stream: Stream[server_pb.ListRevocationsRequest, server_pb.RevocationList]) -> None: ...

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/meshtls.server.v1.Revocations/Revoke": Handler(self.Revoke, Cardinality.UNARY_UNARY, server_pb.RevokeRequest, server_pb.Revoked),
            "/meshtls.server.v1.Revocations/Readmit": Handler(self.Readmit, Cardinality.UNARY_UNARY, server_pb.RevocationSubject, server_pb.Revoked),
            "/meshtls.server.v1.Revocations/ListRevocations": Handler(self.ListRevocations, Cardinality.UNARY_UNARY, server_pb.ListRevocationsRequest, server_pb.RevocationList),
        }


class RevocationsStub:
    def __init__(self, channel: Channel) -> None:
        self.Revoke = UnaryUnaryMethod(channel, "/meshtls.server.v1.Revocations/Revoke", server_pb.RevokeRequest, server_pb.Revoked)
        self.Readmit = UnaryUnaryMethod(channel, "/meshtls.server.v1.Revocations/Readmit", server_pb.RevocationSubject, server_pb.Revoked)
        self.ListRevocations = UnaryUnaryMethod(channel, "/meshtls.server.v1.Revocations/ListRevocations", server_pb.ListRevocationsRequest, server_pb.RevocationList)


class AuthoritiesBase(abc.ABC):
    @abc.abstractmethod
    async def ListAuthorities(self, stream: Stream[server_pb.ListAuthoritiesRequest, server_pb.AuthorityList]) -> None: ...

    @abc.abstractmethod
    async def PrepareAuthority(self, stream: Stream[server_pb.AuthorityRequest, server_pb.Authority]) -> None: ...

    @abc.abstractmethod
    async def ActivateAuthority(self, stream: Stream[server_pb.AuthorityRequest, server_pb.Authority]) -> None: ...

    @abc.abstractmethod
    async def TaintAuthority(self, stream: Stream[server_pb.AuthorityRequest, server_pb.Authority]) -> None: ...

    @abc.abstractmethod
    async def RevokeAuthority(self, stream: Stream[server_pb.AuthorityRequest, server_pb.Authority]) -> None: ...

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/meshtls.server.v1.Authorities/ListAuthorities": Handler(self.ListAuthorities, Cardinality.UNARY_UNARY, server_pb.ListAuthoritiesRequest, server_pb.AuthorityList),
            "/meshtls.server.v1.Authorities/PrepareAuthority": Handler(self.PrepareAuthority, Cardinality.UNARY_UNARY, server_pb.AuthorityRequest, server_pb.Authority),
            "/meshtls.server.v1.Authorities/ActivateAuthority": Handler(self.ActivateAuthority, Cardinality.UNARY_UNARY, server_pb.AuthorityRequest, server_pb.Authority),
            "/meshtls.server.v1.Authorities/TaintAuthority": Handler(self.TaintAuthority, Cardinality.UNARY_UNARY, server_pb.AuthorityRequest, server_pb.Authority),
            "/meshtls.server.v1.Authorities/RevokeAuthority": Handler(self.RevokeAuthority, Cardinality.UNARY_UNARY, server_pb.AuthorityRequest, server_pb.Authority),
        }


class AuthoritiesStub:
    def __init__(self, channel: Channel) -> None:
        self.ListAuthorities = UnaryUnaryMethod(channel, "/meshtls.server.v1.Authorities/ListAuthorities", server_pb.ListAuthoritiesRequest, server_pb.AuthorityList)
        self.PrepareAuthority = UnaryUnaryMethod(channel, "/meshtls.server.v1.Authorities/PrepareAuthority", server_pb.AuthorityRequest, server_pb.Authority)
        self.ActivateAuthority = UnaryUnaryMethod(channel, "/meshtls.server.v1.Authorities/ActivateAuthority", server_pb.AuthorityRequest, server_pb.Authority)
        self.TaintAuthority = UnaryUnaryMethod(channel, "/meshtls.server.v1.Authorities/TaintAuthority", server_pb.AuthorityRequest, server_pb.Authority)
        self.RevokeAuthority = UnaryUnaryMethod(channel, "/meshtls.server.v1.Authorities/RevokeAuthority", server_pb.AuthorityRequest, server_pb.Authority)


class HealthBase(abc.ABC):
    @abc.abstractmethod
    async def GetHealth(self, stream: Stream[server_pb.GetHealthRequest, server_pb.HealthStatus]) -> None: ...

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/meshtls.server.v1.Health/GetHealth": Handler(self.GetHealth, Cardinality.UNARY_UNARY, server_pb.GetHealthRequest, server_pb.HealthStatus),
        }


class HealthStub:
    def __init__(self, channel: Channel) -> None:
        self.GetHealth = UnaryUnaryMethod(channel, "/meshtls.server.v1.Health/GetHealth", server_pb.GetHealthRequest, server_pb.HealthStatus)
