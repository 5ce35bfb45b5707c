"""Records as text for people."""

from __future__ import annotations

from meshtls.admin.words import in_words


def test_a_record_is_lines_a_flat_list_a_table_and_nothing_of_it_controls_the_terminal() -> None:
    record = {
        "name": "b\x1b[2J",
        "none": None,
        "ids": ["x", "y\n"],
        "inner": {"ready": True, "ms": 1.25},
        "rows": [{"source": "a", "n": 1}, {"source": "bbb", "n": None}],
        "blocks": [{"chain": ["one"]}],
    }
    assert in_words(record).split("\n") == [
        "name:                    b\\x1b[2J",
        "none:                    -",
        "ids:                     x, y\\n",
        "inner:",
        "  ready:                   yes",
        "  ms:                      1.25",
        "rows:",
        "  source  n",
        "  a       1",
        "  bbb     -",
        "blocks:",
        "  chain:                   one",
    ]


def test_without_tables_each_record_of_a_list_has_lines_of_its_own() -> None:
    assert in_words({"rows": [{"source": "a", "n": 1}, {"source": "b"}]}, tables=False).split("\n") == [
        "rows:",
        "  source:                  a",
        "  n:                       1",
        "",
        "  source:                  b",
    ]
