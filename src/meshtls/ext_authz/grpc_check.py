"""Asks a provider by gRPC: ``envoy.service.auth.v3.Authorization/Check``.

A permission is a response whose status is OK and that denies nothing. Envoy also takes an empty message for one; here
it is no decision, since it says nothing.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable

from google.protobuf.message import DecodeError
from grpclib.client import Channel
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from meshtls.ext_authz.answer import ExtAuthzAnswer, HeaderChanges, ProviderError
from meshtls.ext_authz.settings import ExtAuthzProvider
from meshtls.policy.request import Request
from meshtls.proto.envoy import auth_pb, core_pb
from meshtls.proto.envoy.auth_grpc import AuthorizationStub
from meshtls.wire.http import HttpRequest
from meshtls.wire.http_rules import latin_1, utf_8

__all__ = ["answer_of", "check_by_grpc", "check_request"]

_OK = 0
_UNKNOWN_SIZE = -1
_FORBIDDEN = 403
_STATUSES = range(200, 600)
_APPEND, _ADD, _OVERWRITE, _REPLACE = range(4)


async def check_by_grpc(provider: ExtAuthzProvider, channel: Channel, request: Request) -> ExtAuthzAnswer:
    """Ask about an HTTP request, or about a connection if ``request.http`` is None. Raises ProviderError."""
    try:
        response = await AuthorizationStub(channel).Check(check_request(request))
    except GRPCError as error:
        raise ProviderError(
            f"it answered with gRPC status {error.status.name}: {error.message or 'no text'}"
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise ProviderError(f"{provider.address}: its certificate is refused: {error.verify_message}") from error
    except DecodeError as error:
        raise ProviderError(f"{provider.address} gave an invalid answer: {error}") from error
    except (OSError, StreamTerminatedError, ProtocolError, UnicodeError) as error:
        raise ProviderError(f"{provider.address}: {str(error) or type(error).__name__}") from error
    return answer_of(provider, response)


def check_request(request: Request) -> auth_pb.CheckRequest:
    """The attributes of a request or connection. ``source.principal`` is the SPIFFE ID that the peer proved.

    ``source.address`` is the client's, and empty if it is not known: a proxy's in its place could be allowed.
    """
    client = request.source_ip if request.remote_ip is None else request.remote_ip
    attributes = auth_pb.AttributeContext(
        source=_peer(client, None, str(request.source or "")),
        destination=_peer(request.destination_ip, request.port, str(request.destination)),
        request=auth_pb.AttributeContext.Request(),
    )
    attributes.request.time.GetCurrentTime()
    if request.sni:
        attributes.tls_session.sni = utf_8(request.sni)
    if request.http is not None:
        attributes.request.http.CopyFrom(_http(request.http, "https" if request.peer else "http"))
    return auth_pb.CheckRequest(attributes=attributes)


def _peer(ip: str | None, port: int | None, principal: str) -> auth_pb.AttributeContext.Peer:
    peer = auth_pb.AttributeContext.Peer(principal=principal)
    if ip is not None or port is not None:
        peer.address.socket_address.address = ip or ""
        peer.address.socket_address.port_value = port or 0
    return peer


def _http(http: HttpRequest, scheme: str) -> auth_pb.AttributeContext.HttpRequest:
    headers = {":method": http.method, ":path": http.path, ":authority": http.host, ":scheme": scheme}
    for name, value in http.headers:
        joint = "; " if name == "cookie" else ","
        headers[name] = f"{headers[name]}{joint}{value}" if name in headers else value
    return auth_pb.AttributeContext.HttpRequest(
        id=utf_8(headers.get("x-request-id", "")),
        method=utf_8(http.method),
        headers={utf_8(name): utf_8(value) for name, value in headers.items()},
        path=utf_8(http.path),
        host=utf_8(http.host),
        scheme=scheme,
        size=_UNKNOWN_SIZE,
    )


def answer_of(provider: ExtAuthzProvider, response: auth_pb.CheckResponse) -> ExtAuthzAnswer:
    """What a response means. Raises ProviderError if it is no clear decision."""
    denied, allowed = response.HasField("denied_response"), response.HasField("ok_response")
    code = response.status.code
    if code == _OK and not denied:
        if not allowed and not response.HasField("status"):
            raise ProviderError("its answer has neither a status nor a response")
        changes = _changes(response.ok_response)
        changes.check()
        return ExtAuthzAnswer(
            allowed=True,
            reason=f"provider {provider.name!r} allowed it",
            headers=_headers(response.ok_response.response_headers_to_add),
            upstream=changes,
        )
    if code == _OK:
        raise ProviderError("its answer has the status OK with a denial")
    status = response.denied_response.status.code
    said = f": {response.status.message}" if response.status.message else ""
    return ExtAuthzAnswer(
        allowed=False,
        reason=f"provider {provider.name!r} denied it with gRPC status {code}{said}",
        status=status if status in _STATUSES else _FORBIDDEN,
        body=response.denied_response.body,
        headers=_headers(response.denied_response.headers),
    )


def _changes(ok: auth_pb.OkHttpResponse) -> HeaderChanges:
    found: dict[int, list[tuple[str, str]]] = {action: [] for action in (_APPEND, _ADD, _OVERWRITE, _REPLACE)}
    for option in ok.headers:
        # Without either field the header is overwritten here, unlike in the rest of Envoy's API.
        action = _OVERWRITE if not option.append_action and not option.append.value else option.append_action
        found.get(action, found[_OVERWRITE]).append(_header(option))
    return HeaderChanges(
        set=tuple(found[_OVERWRITE]),
        replaced=tuple(found[_REPLACE]),
        added=tuple(found[_ADD]),
        appended=tuple(found[_APPEND]),
        removed=tuple(name.lower() for name in ok.headers_to_remove),
    )


def _headers(options: Iterable[core_pb.HeaderValueOption]) -> tuple[tuple[str, str], ...]:
    return tuple(map(_header, options))


def _header(option: core_pb.HeaderValueOption) -> tuple[str, str]:
    raw = option.header.raw_value
    return option.header.key.lower(), raw.decode("latin-1") if raw else latin_1(option.header.value)
