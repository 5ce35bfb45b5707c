"""A trust domain's own ID is refused as a workload's ID, in a sidecar's file and in a node's message."""

from __future__ import annotations

import pytest

from meshtls.errors import InvalidSpiffeIdError
from meshtls.scalars import workload_id
from meshtls.spiffeid import SpiffeId, TrustDomain


def test_the_id_of_a_workload_has_a_path() -> None:
    assert workload_id("spiffe://example.com/a") == SpiffeId(TrustDomain("example.com"), "/a")
    with pytest.raises(InvalidSpiffeIdError) as caught:
        workload_id("spiffe://example.com")

    assert str(caught.value) == (
        "wanted a workload's ID, with a path such as spiffe://example.com/web, got spiffe://example.com"
    )
