"""What is said about the keys of each file: docs/reference is up to date, and the JSON Schema takes what we take."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

import meshtls.cli
from meshtls.cli.config import FILES
from meshtls.cli.reference import pages
from meshtls.config.keys import KeyField, keys_of
from meshtls.config.schema import describe, json_schema, text_of

ROOT = Path(__file__).parents[3]
EXAMPLES = {
    "sidecar": [
        *(Path(meshtls.cli.__file__).parent / "sidecars").glob("*.yaml"),
        *ROOT.glob("sidecars/compose/[ab].yaml"),
    ],
    "agent": [ROOT / "sidecars/compose/agent.yaml"],
    "server": [ROOT / "sidecars/compose/server.yaml"],
}


def test_the_reference_is_what_make_reference_writes() -> None:
    written = {file.name: file.read_text("utf-8") for file in (ROOT / "docs/reference").glob("*.md")}
    assert written == dict(pages())


def all_keys(kind: Any) -> list[KeyField]:
    return [one for key in keys_of(kind) for one in (key, *(all_keys(key.section) if key.section else ()))]


@pytest.mark.parametrize("file", FILES)
def test_every_key_has_a_meaning_and_a_default_that_reads_as_it_is_shown(file: str) -> None:
    keys = all_keys(FILES[file].keys())
    assert len(keys) > 8
    for one in keys:
        assert one.key.meaning.endswith("."), one.name
        if one.key.value and not one.required and not one.key.default:
            default = one.make_default()
            for value in default if isinstance(default, tuple) else (default,):
                assert one.key.value.parse(one.key.value.show(value)) == value, one.name


@pytest.mark.parametrize("file", FILES)
def test_each_key_is_told_with_its_type_default_and_meaning(file: str) -> None:
    kind, text = FILES[file].keys(), text_of(FILES[file].keys())
    for one in describe(kind):
        [line] = [line for line in text.splitlines() if line.startswith(f"{one.path}  (")]
        assert one.type in line
        assert one.required or one.default in line
        assert one.meaning.split()[0] in text


def schema(file: str) -> dict[str, Any]:
    return json_schema(FILES[file].keys(), file)


@pytest.mark.parametrize("file", FILES)
def test_the_json_schema_is_a_valid_schema(file: str) -> None:
    Draft202012Validator.check_schema(schema(file))


@pytest.mark.parametrize(("file", "example"), [(file, one) for file, found in EXAMPLES.items() for one in found])
def test_the_json_schema_takes_the_files_that_are_shipped(file: str, example: Path) -> None:
    said = yaml.safe_load(example.read_text("utf-8"))
    assert list(Draft202012Validator(schema(file)).iter_errors(said)) == []
    said["colour"] = "red"
    assert len(list(Draft202012Validator(schema(file)).iter_errors(said))) == 1


GOOD_CA = {"trust_domain": "example.org", "socket_path": "/s", "identities": [{"uid": 1, "spiffe_id": "spiffe://a/b"}]}


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, 0),
        ({"svid_ttl": "5m", "log_level": "warn"}, 0),
        ({"svid_ttl": "5 minutes"}, 1),
        ({"identities": [{"uid": -1, "spiffe_id": "spiffe://a/b"}]}, 1),
        ({"identities": [{"uid": 1, "spiffe_id": "spiffe://a"}]}, 1),
        ({"identities": {}}, 1),
        ({"log_level": "loud"}, 1),
        ({"socket_path": ""}, 1),
    ],
)
def test_the_json_schema_refuses_what_a_reading_refuses(change: dict[str, Any], wrong: int) -> None:
    said = copy.deepcopy(GOOD_CA) | change
    assert len(list(Draft202012Validator(schema("ca")).iter_errors(said))) == wrong


def test_the_json_schema_takes_the_old_name_of_a_key_that_is_required_and_wants_one_of_both() -> None:
    old = {name.replace("socket_path", "socket"): value for name, value in GOOD_CA.items()}
    neither = {name: value for name, value in GOOD_CA.items() if name != "socket_path"}
    found = [len(list(Draft202012Validator(schema("ca")).iter_errors(said))) for said in (old, neither)]
    assert found == [0, 1]
