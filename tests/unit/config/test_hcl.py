"""Which of a server's files are HCL, and that no file holds its reader up."""

from __future__ import annotations

import pytest

from meshtls.config.hcl import looks_like_hcl, read_hcl
from meshtls.errors import ConfigError
from meshtls.server.config import parse_config

BLOCK = 'server {\n  trust_domain = "example.org"\n}\nplugins {}\n'
YAML = "trust_domain: example.org\n"


@pytest.mark.parametrize("line", ["#" * 30, "//" * 30, " \t" * 30, "#" * 1_000_000, "\n#" * 100_000])
def test_a_file_of_either_kind_that_begins_with_a_rule_is_read(line: str) -> None:
    # 30 of them took the reader minutes: it tried every way to cut them into comments.
    rule = "" if line.startswith("//") or "\t" in line else f"{line}\n"
    assert parse_config("s.yaml", rule + YAML).trust_domain.name == "example.org"
    assert parse_config("s.conf", f"{line}\n{BLOCK}").trust_domain.name == "example.org"


@pytest.mark.parametrize(
    ("text", "is_hcl"),
    [
        (BLOCK, True),
        ('# c\n// c\n/* c\n */ a "b" "c" {', True),
        ("a{", True),
        ("", False),
        ("# only a comment", False),
        ("/* never ended", False),
        ("a", False),
        ('a "b"', False),
        ("a = 1", False),
        ("a: {}", False),
        ("{a: 1}", False),
        ('"a" {', False),
        ("1 {", False),
        ("a b {", False),
        ('a "b\n" {', False),
    ],
)
def test_a_file_is_hcl_where_it_begins_with_a_block(text: str, is_hcl: bool) -> None:
    assert looks_like_hcl(text) is is_hcl


@pytest.mark.parametrize(
    "text", ['"' * 100_001, "/*" * 100_000, "1" * 100_000 + "a", "[" * 100_000, "a " * 100_000, "\\" * 100_000]
)
def test_a_long_file_that_is_no_hcl_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="^s.conf, line 1: "):
        read_hcl("s.conf", text)
