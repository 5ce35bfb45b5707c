"""What of a configuration is shown, and what never is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec

from meshtls.admin.plain import HIDDEN, plain
from meshtls.config.keys import TEXT, Key
from meshtls.spiffeid import SpiffeId

WHO = SpiffeId.parse("spiffe://a.test/x")
A_TOKEN = "t0p"  # noqa: S105  # of nothing


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    token: Annotated[str, Key("", TEXT, secret=True)]
    renamed: Annotated[str, Key("", TEXT, name="in_the_file")] = "shown"


@dataclass(frozen=True)
class Settings:
    keys: Keys
    key: str = field(repr=False)
    path: Path = Path("/x")
    who: SpiffeId = WHO
    other: object = b"bytes are not shown"


def test_a_value_that_is_declared_secret_or_is_no_part_of_a_repr_is_not_shown() -> None:
    assert plain(Settings(Keys(token=A_TOKEN), "s3cret")) == {
        "keys": {"token": HIDDEN, "in_the_file": "shown"},
        "key": HIDDEN,
        "path": "/x",
        "who": "spiffe://a.test/x",
        "other": "(bytes)",
    }


def test_a_secret_that_is_not_there_is_shown_as_that() -> None:
    assert plain(Keys(token="")) == {"token": "", "in_the_file": "shown"}
