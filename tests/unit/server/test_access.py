"""Access control: every method of the API is allowed to exactly one role."""

from __future__ import annotations

import inspect
from typing import Any, cast

import pytest
from grpclib.const import Status

from meshtls import errors
from meshtls.proto import server_grpc
from meshtls.proto.spire import bundle_grpc, svid_grpc
from meshtls.rpc.calls import status_of
from meshtls.server.access import Role, may_call

SERVICES = {
    "Attestation": Role.ANONYMOUS,
    "Node": Role.AGENT,
    "Entries": Role.ADMIN,
    "Agents": Role.ADMIN,
    "Svids": Role.ADMIN,
    "Bundles": Role.ADMIN,
    "Federation": Role.ADMIN,
    "Log": Role.ADMIN,
    "Authorities": Role.ADMIN,
    "Revocations": Role.ADMIN,
    "Health": Role.ADMIN,
}


DOWNSTREAM = {
    "/spire.api.server.svid.v1.SVID/NewDownstreamX509CA",
    "/spire.api.server.bundle.v1.Bundle/GetBundle",
    "/spire.api.server.bundle.v1.Bundle/PublishJWTAuthority",
}


def methods() -> list[tuple[str, str]]:
    bases = {name[:-4]: base for name, base in vars(server_grpc).items() if name.endswith("Base")}
    assert bases.keys() == SERVICES.keys()
    return [(service, method) for service, base in bases.items() for method in sorted(base.__abstractmethods__)]


@pytest.mark.parametrize(("service", "method"), methods())
def test_a_method_is_allowed_to_exactly_one_role(service: str, method: str) -> None:
    path = f"/meshtls.server.v1.{service}/{method}"
    assert [role for role in Role if may_call(role, path)] == [SERVICES[service]]


@pytest.mark.parametrize("path", sorted(DOWNSTREAM))
def test_the_rpcs_of_spire_servers_are_allowed_to_downstream_servers_only(path: str) -> None:
    assert [role for role in Role if may_call(role, path)] == [Role.DOWNSTREAM]


def test_no_other_method_of_a_downstream_server_is_allowed() -> None:
    bases = (svid_grpc.SVIDBase, bundle_grpc.BundleBase)
    served = {path for base in bases for path in base.__mapping__(cast(Any, _Any()))}
    assert served == DOWNSTREAM


class _Any:
    def __getattr__(self, name: str) -> str:
        return name


@pytest.mark.parametrize(
    "path",
    [
        "/spire.api.server.svid.v1.SVID/MintX509SVID",
        "",
        "/",
        "/Node/Sync",
        "/meshtls.server.v2.Node/Sync",
        "/meshtls.server.v1.Other/X",
    ],
)
def test_a_method_that_is_not_listed_is_refused_to_every_role(path: str) -> None:
    assert not any(may_call(role, path) for role in Role)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NotFoundError("x"), Status.NOT_FOUND),
        (errors.ConflictError("x"), Status.ALREADY_EXISTS),
        (errors.InvalidSpiffeIdError("x"), Status.INVALID_ARGUMENT),
        (errors.AccessError("x"), Status.PERMISSION_DENIED),
        (errors.StoreError("x"), Status.UNAVAILABLE),
        (errors.ConfigError("x"), Status.FAILED_PRECONDITION),
    ],
)
def test_an_error_has_the_status_of_its_most_specific_class(error: errors.MeshtlsError, status: Status) -> None:
    assert status_of(error) is status


def test_every_error_of_ours_has_a_status() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.MeshtlsError)]
    assert all(isinstance(status_of(kind("x")), Status) for kind in kinds)
