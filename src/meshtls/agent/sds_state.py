"""The state of an SDS stream, which decides the next response, in both variants of the xDS protocol. Pure.

Envoy answers each response with its nonce: ACK, or NACK with a reason. A rejected response would be rejected again, so
it is not repeated; the next change is sent as usual. A request with a stale nonce is ignored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from meshtls.agent.sds_secrets import SECRET_TYPE, NamedSecret
from meshtls.proto.envoy import discovery_pb as pb

__all__ = ["DeltaState", "WorldState", "names_or_all", "world"]

_WILDCARD = "*"


def world(secrets: Iterable[NamedSecret], nonce: str) -> pb.DiscoveryResponse:
    """A response with these secrets; its version is theirs."""
    present = list(secrets)
    named = "\n".join(f"{one.name} {one.version}" for one in present)
    return pb.DiscoveryResponse(
        version_info=hashlib.sha256(named.encode()).hexdigest()[:32],
        resources=[one.resource for one in present],
        type_url=SECRET_TYPE,
        nonce=nonce,
    )


def names_or_all(names: Sequence[str], secrets: Mapping[str, NamedSecret]) -> Sequence[str]:
    """The names without duplicates; all names if none is given, or ``*`` is among them."""
    return sorted(secrets) if not names or _WILDCARD in names else tuple(dict.fromkeys(names))


class WorldState:
    """State of the world: each response holds all secrets that were requested by name.

    It holds all secrets if the first request named none, or a request names ``*``. ``sent`` counts the responses.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] | None = None
        self._everything = False
        self._told: frozenset[str] = frozenset()
        self.sent = 0
        self._version = ""

    def take(self, request: pb.DiscoveryRequest) -> str | None:
        """Take the next request. Returns the reason if it rejects the last response."""
        if request.response_nonce not in ("", self._nonce):
            return None
        if self._names is None:
            self._everything = not request.resource_names
        self._names = tuple(dict.fromkeys(request.resource_names))
        return request.error_detail.message if request.HasField("error_detail") else None

    def response(self, secrets: Mapping[str, NamedSecret]) -> pb.DiscoveryResponse | None:
        """The response for these secrets, the complete set; None if nothing in it is new."""
        if self._names is None:
            return None
        names = names_or_all(self._names, secrets) if self._names or self._everything else ()
        wanted = [secrets[name] for name in names if name in secrets]
        response = world(wanted, str(self.sent + 1))
        if not wanted or response.version_info == self._version:
            return None
        self.sent += 1
        self._version = response.version_info
        return response

    def newly_missing(self, secrets: Mapping[str, NamedSecret]) -> tuple[str, ...]:
        """Requested names without a secret; each is returned once."""
        missing = frozenset(self._names or ()) - secrets.keys() - {_WILDCARD}
        new, self._told = missing - self._told, missing
        return tuple(sorted(new))

    @property
    def _nonce(self) -> str:
        return str(self.sent) if self.sent else ""


class DeltaState:
    """Incremental: each response holds new and changed secrets, and the names of removed and unknown ones.

    ``sent`` counts the responses.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._everything = False
        self._known: dict[str, str | None] = {}
        self._told: frozenset[str] = frozenset()
        self._first = True
        self.sent = 0

    def take(self, request: pb.DeltaDiscoveryRequest) -> str | None:
        """Take the next request. Returns the reason if it rejects a response."""
        if self._first:
            self._known.update(request.initial_resource_versions)
            self._everything = not request.resource_names_subscribe
        self._subscribe(request.resource_names_subscribe)
        self._unsubscribe(request.resource_names_unsubscribe)
        self._first = False
        return request.error_detail.message if request.HasField("error_detail") else None

    def response(self, secrets: Mapping[str, NamedSecret]) -> pb.DeltaDiscoveryResponse | None:
        """As in WorldState."""
        present = {name: one for name, one in secrets.items() if self._everything or name in self._names}
        new = [one for name, one in sorted(present.items()) if self._known.get(name) != one.version]
        # A name that was requested and never sent is reported as removed once: None stands for "reported".
        asked = {name for name in self._names if name not in self._known} | {n for n, v in self._known.items() if v}
        gone = sorted(asked - present.keys())
        if not new and not gone:
            return None
        self._known |= {one.name: one.version for one in new} | dict.fromkeys(gone)
        self.sent += 1
        return pb.DeltaDiscoveryResponse(
            system_version_info=str(self.sent),
            resources=[pb.Resource(name=one.name, version=one.version, resource=one.resource) for one in new],
            type_url=SECRET_TYPE,
            nonce=str(self.sent),
            removed_resources=gone,
        )

    def newly_missing(self, secrets: Mapping[str, NamedSecret]) -> tuple[str, ...]:
        """As in WorldState."""
        missing = self._names - secrets.keys()
        new, self._told = missing - self._told, frozenset(missing)
        return tuple(sorted(new))

    def _subscribe(self, names: Iterable[str]) -> None:
        for name in names:
            if name == _WILDCARD:
                self._everything = True
                continue
            if not self._first:
                # A re-subscribe means that the client dropped the resource: send it again.
                self._known.pop(name, None)
            self._names.add(name)

    def _unsubscribe(self, names: Iterable[str]) -> None:
        for name in names:
            if name == _WILDCARD:
                self._everything = False
                self._known = {one: version for one, version in self._known.items() if one in self._names}
            self._names.discard(name)
            self._known.pop(name, None)
