"""What a new view changes, as a table; a view and the file that filled it say the same."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from meshtls.address import Address
from meshtls.sidecar.settings import InboundConfig, Mode, OutboundConfig, SidecarConfig
from meshtls.sidecar.view import Change, MeshView, Policy, RouteChange, Routes, ViewChanges, changes, view_of, with_view
from meshtls.spiffeid import SpiffeId
from meshtls.workload.address import parse_address

A, B = SpiffeId.parse("spiffe://example.org/a"), SpiffeId.parse("spiffe://example.org/b")
HERE, THERE, ANYWHERE = (Address("127.0.0.1", port) for port in (15006, 15007, 0))
IN = InboundConfig(listen=HERE, app=Address("127.0.0.1", 8080), allow=(A,))
OUT = OutboundConfig(listen=HERE, to=Address("b", 15006), peer=B)
KEPT_IN, KEPT_OUT = RouteChange(HERE, 0, 0), RouteChange(HERE, 0, 0)


def a_view(inbound: tuple[InboundConfig, ...] = (IN,), outbound: tuple[OutboundConfig, ...] = (OUT,)) -> MeshView:
    return view_of(SidecarConfig(name="a", spiffe_id=A, inbound=inbound, outbound=outbound))


def route(one: Any, **keys: Any) -> Any:
    return msgspec.structs.replace(one, **keys)


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (MeshView(), MeshView(), ViewChanges()),
        (MeshView(), a_view(), ViewChanges((RouteChange(HERE, None, 0),), (RouteChange(HERE, None, 0),))),
        (a_view(), a_view(), ViewChanges((KEPT_IN,), (KEPT_OUT,))),
        (a_view(), MeshView(), ViewChanges((RouteChange(HERE, 0, None),), (RouteChange(HERE, 0, None),))),
        (
            a_view(),
            a_view((route(IN, allow=()),)),
            ViewChanges((RouteChange(HERE, 0, 0, ("allow",)),), (KEPT_OUT,)),
        ),
        (
            a_view(),
            a_view((route(IN, mode=Mode.PERMISSIVE, allow=(B,), tunnel=True),)),
            ViewChanges((RouteChange(HERE, 0, 0, ("mode", "allow", "tunnel")),), (KEPT_OUT,)),
        ),
        (
            a_view(),
            a_view((route(IN, listen=THERE),), (route(OUT, peer=A, warm=1),)),
            ViewChanges(
                (RouteChange(THERE, None, 0), RouteChange(HERE, 0, None)), (RouteChange(HERE, 0, 0, ("peer", "warm")),)
            ),
        ),
        (
            a_view((IN, route(IN, listen=ANYWHERE), route(IN, listen=ANYWHERE))),
            a_view((route(IN, listen=ANYWHERE), IN, *(route(IN, listen=ANYWHERE) for _ in range(2)))),
            ViewChanges(
                (
                    RouteChange(ANYWHERE, 1, 0),
                    RouteChange(HERE, 0, 1),
                    RouteChange(ANYWHERE, 2, 2),
                    RouteChange(ANYWHERE, None, 3),
                ),
                (KEPT_OUT,),
            ),
        ),
        (
            a_view(),
            msgspec.structs.replace(a_view(), trust=parse_address("unix:///other.sock"), generation=9),
            ViewChanges((KEPT_IN,), (KEPT_OUT,), trust=True),
        ),
        (
            a_view(),
            msgspec.structs.replace(a_view(), policies=(Policy((A,), plaintext=True),)),
            ViewChanges((RouteChange(HERE, 0, 0, ("mode",)),), (KEPT_OUT,)),
        ),
    ],
    ids=["nothing", "first", "same", "last", "policy", "policy and route", "moved", "order", "trust", "plaintext"],
)
def test_views_differ_by_their_routes_policies_and_trust(old: MeshView, new: MeshView, wanted: ViewChanges) -> None:
    assert changes(old, new) == wanted


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (RouteChange(HERE, None, 0), Change.ADDED),
        (RouteChange(HERE, 0, None), Change.REMOVED),
        (RouteChange(HERE, 0, 1), Change.KEPT),
        (RouteChange(HERE, 0, 0, ("app",)), Change.CHANGED),
    ],
)
def test_a_change_of_a_route_is_of_one_kind(change: RouteChange, kind: Change) -> None:
    assert change.change is kind


def test_a_view_has_the_routes_and_policies_of_its_file_and_gives_them_back() -> None:
    disabled = InboundConfig(listen=THERE, app=HERE, mode=Mode.DISABLE)
    config = SidecarConfig(name="a", spiffe_id=A, inbound=(IN, disabled), outbound=(OUT,), log_level="ERROR")
    view = view_of(config, 7)
    assert view.generation == 7
    assert [one.allow for one in view.routes.inbound] == [(), ()]
    assert view.policies == (Policy((A,)), Policy((), plaintext=True))
    assert with_view(config, view) == config
    assert with_view(SidecarConfig(name="a", spiffe_id=A, log_level="ERROR"), view) == config


def test_a_route_without_a_policy_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^wanted a policy for each of 1 inbound routes, got 0$"):
        MeshView(1, Routes((IN,)))
