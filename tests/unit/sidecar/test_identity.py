"""The identity that a sidecar presents is the configured one, whatever its source gave before."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from meshtls.clock import SystemClock
from meshtls.errors import LocalIdentityError
from meshtls.sidecar.identity import NamedSource
from meshtls.svid.context import X509Context
from tests.support.authority import context_for, make_authority

OURS = make_authority("example.org")
WEB, API = (context_for(OURS, path) for path in ("/web", "/api"))


@dataclass
class Changing:
    context: X509Context

    def snapshot(self) -> X509Context:
        return self.context


def test_an_identity_that_replaces_the_configured_one_is_refused() -> None:
    source = Changing(WEB)
    named = NamedSource(source, WEB.svid.spiffe_id, SystemClock())
    assert named.snapshot() is named.snapshot() is WEB
    source.context = API
    for _ in range(2):
        with pytest.raises(LocalIdentityError) as refused:
            named.snapshot()
        assert str(refused.value) == (
            "wanted an SVID of spiffe://example.org/web, got one of spiffe://example.org/api;"
            " mend spiffe_id in the sidecar's file, or what the CA issues to it"
        )
    source.context = WEB
    assert named.snapshot() is WEB
