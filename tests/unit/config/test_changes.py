"""Which keys of a changed file a reload applies, and which need a restart."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest

from meshtls.cli.ca_config import parse_ca_config, reloaded
from meshtls.config.changes import Changes, merged
from meshtls.config.keys import COUNT, TEXT, Key
from meshtls.errors import ConfigError


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    size: Annotated[int, Key("Its size.", COUNT, live=True)] = 1
    name: Annotated[str, Key("Its name.", TEXT)] = "x"


class Outer(msgspec.Struct, frozen=True, kw_only=True):
    fixed: Annotated[str, Key("Stays.", TEXT)] = "a"
    live: Annotated[str, Key("Changes.", TEXT, name="alive", live=True)] = "a"
    inner: Annotated[Inner, Key("A section.")] = Inner()
    swapped: Annotated[Inner | None, Key("A section that is live as a whole.", live=True)] = None
    whole: Annotated[Inner, Key("A section that is live as a whole, and is always there.", live=True)] = Inner()
    optional: Annotated[Inner | None, Key("A section that may be missing.")] = None
    many: Annotated[tuple[Inner, ...], Key("A list.", live=True)] = ()


@pytest.mark.parametrize(
    ("wanted", "running", "changes"),
    [
        (Outer(), Outer(), Changes()),
        (Outer(live="b"), Outer(live="b"), Changes(("alive",))),
        (Outer(fixed="b"), Outer(), Changes((), ("fixed",))),
        (
            Outer(fixed="b", live="b", inner=Inner(size=2, name="y")),
            Outer(live="b", inner=Inner(size=2)),
            Changes(("alive", "inner.size"), ("fixed", "inner.name")),
        ),
        (Outer(swapped=Inner(name="y")), Outer(swapped=Inner(name="y")), Changes(("swapped",))),
        (
            Outer(whole=Inner(name="y")),
            Outer(whole=Inner(name="y")),
            Changes(("whole.name",)),
        ),
        (Outer(optional=Inner()), Outer(), Changes((), ("optional",))),
        (Outer(many=(Inner(),)), Outer(many=(Inner(),)), Changes(("many",))),
    ],
)
def test_live_keys_are_reloaded_and_the_others_named(wanted: Outer, running: Outer, changes: Changes) -> None:
    assert merged(Outer(), wanted) == (running, changes)


CA = "trust_domain: {domain}\nsocket_path: /s\nidentities: [{{uid: 1, spiffe_id: 'spiffe://{domain}/{name}'}}]\n"


def test_a_running_ca_reloads_identities_but_not_its_trust_domain() -> None:
    running = parse_ca_config(CA.format(domain="example.org", name="a"))
    config, changes = reloaded(running, parse_ca_config(CA.format(domain="example.org", name="b")))
    assert (str(config.identities[1]), changes) == ("spiffe://example.org/b", Changes(("identities",)))
    with pytest.raises(ConfigError) as refused:
        reloaded(running, parse_ca_config(CA.format(domain="example.com", name="a")))
    assert str(refused.value) == (
        "trust_domain: example.org can't change to example.com in a running process; restart it"
    )
