"""What a server and an agent declare and count, without either."""

from __future__ import annotations

import pytest

from meshtls.agent.metrics.families import FAMILIES as OF_AGENT
from meshtls.errors import ConfigError, MeshtlsError, RequestError
from meshtls.observe.metrics import Family, Metrics
from meshtls.server.metrics.counting import Counting
from meshtls.server.metrics.families import FAMILIES as OF_SERVER

FAILURES = "meshtls_server_signing_failures_total"


@pytest.mark.parametrize(("prefix", "families"), [("server", OF_SERVER), ("agent", OF_AGENT)])
def test_families_are_named_by_their_component_and_each_is_declared_once(
    prefix: str, families: tuple[Family, ...]
) -> None:
    names = [one.name for one in families]
    assert len(set(names)) == len(names)
    shared = ("meshtls_svid_", "meshtls_bundle_", "meshtls_trust_generation", "meshtls_ready", "meshtls_build_info")
    assert [name for name in names if not name.startswith((f"meshtls_{prefix}_", *shared))] == []


@pytest.mark.parametrize("families", [OF_SERVER, OF_AGENT])
def test_every_label_has_listed_values_or_a_bound(families: tuple[Family, ...]) -> None:
    assert all(label.values or label.most <= 200 for one in families for label in one.labels)


@pytest.mark.parametrize(
    ("error", "reason"), [(RequestError("no CSR"), "request"), (ConfigError("the CA has expired"), "authority")]
)
def test_a_signature_that_fails_is_counted_by_whose_fault_it_is(error: MeshtlsError, reason: str) -> None:
    metrics = Metrics()
    counting = Counting(metrics)
    counting.signed("jwt", 0.25, error)
    found = metrics.snapshot()
    other = {"request": "authority", "authority": "request"}[reason]
    assert found.value(FAILURES, "jwt", reason) == 1
    assert found.value(FAILURES, "jwt", other) == found.value(FAILURES, "x509", reason) == 0


def test_a_signature_that_succeeds_is_no_failure() -> None:
    metrics = Metrics()
    Counting(metrics).signed("ca", 0.25, None)
    assert metrics.snapshot().value(FAILURES, "ca", "authority") == 0


@pytest.mark.parametrize("failed", [True, False])
def test_only_a_transaction_that_failed_is_a_failure_of_the_store(failed: bool) -> None:
    metrics = Metrics()
    Counting(metrics).transaction("write", 0.25, failed=failed)
    found = metrics.snapshot()
    assert found.value("meshtls_server_store_failures_total", "write") == failed
    assert found.value("meshtls_server_store_failures_total", "read") == 0
