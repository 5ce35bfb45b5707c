"""Hosts that a client passes by with a port, or a last dot."""

from __future__ import annotations

import pytest

from meshtls.policy.istio.lint import findings
from meshtls.policy.istio.model import Action, Documents, MeshSettings, Operation
from tests.unit.policy.istio.making import policy, rule

MESH = MeshSettings(trust_domain="a.test")
WHOLE = "is compared with the whole Host field: a request for the same host"
STARS = "no pattern has a star at both ends, so name each host, or allow the hosts that are wanted instead"


def found(operation: Operation, action: Action) -> list[str]:
    documents = Documents(authorization_policies=(policy(rule(operation=operation), action=action),))
    return [one.text for one in findings(documents, MESH) if one.code == "host-passed-by"]


@pytest.mark.parametrize(
    ("hosts", "texts"),
    [
        (
            ("admin.example",),
            [
                f"'admin.example' in hosts {WHOLE} with a port or with a last dot is not denied; write also"
                " 'admin.example:*', 'admin.example.', 'admin.example.:*'"
            ],
        ),
        (
            ("Admin.example", "admin.example:*"),
            [
                f"'Admin.example' in hosts {WHOLE} with a last dot is not denied; write also 'Admin.example.',"
                " 'Admin.example.:*'"
            ],
        ),
        (
            ("admin.example", "admin.example:*", "admin.example."),
            [
                f"'admin.example' in hosts {WHOLE} with a last dot and a port is not denied; write also"
                " 'admin.example.:*'",
                f"'admin.example.' in hosts {WHOLE} with a last dot and a port is not denied; write also"
                " 'admin.example.:*'",
            ],
        ),
        (("[::1]",), [f"'[::1]' in hosts {WHOLE} with a port is not denied; write also '[::1]:*'"]),
        (("*.example",), [f"'*.example' in hosts {WHOLE} with a port or with a last dot is not denied; {STARS}"]),
        (("admin.example", "admin.example:*", "admin.example.", "admin.example.:*"), []),
        (("admin.example*",), []),
        (("admin.example:8080",), []),
        (("*:8080",), []),
        (("https://admin.example",), []),
        (("admin.example/",), []),
        (("k\u00f6ln.example",), []),
        (("*",), []),
    ],
)
def test_a_denied_host_that_another_spelling_passes_is_found_with_what_to_write(
    hosts: tuple[str, ...], texts: list[str]
) -> None:
    assert found(Operation(hosts=hosts), Action.DENY) == texts


@pytest.mark.parametrize(
    ("action", "operation", "effect"),
    [
        (Action.CUSTOM, Operation(hosts=("a",)), "is not asked about"),
        (Action.ALLOW, Operation(not_hosts=("a",)), "is not excluded"),
        (Action.ALLOW, Operation(hosts=("a",)), ""),
        (Action.DENY, Operation(not_hosts=("a",)), ""),
        (Action.AUDIT, Operation(hosts=("a",)), ""),
    ],
)
def test_only_hosts_whose_other_spellings_get_through_are_found(
    action: Action, operation: Operation, effect: str
) -> None:
    assert [effect in one for one in found(operation, action)] == ([True] if effect else [])
