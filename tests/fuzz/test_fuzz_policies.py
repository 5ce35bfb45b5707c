"""Fuzz target: the parser of Istio's documents."""

from __future__ import annotations

import json
from typing import Any

import yaml
from hypothesis import strategies as st

from meshtls.errors import ConfigError
from meshtls.policy.istio.lint import findings
from meshtls.policy.istio.model import Documents, MeshSettings, Workload
from meshtls.policy.istio.parse import parse_documents
from tests.fuzz.running import documented, fuzzed, spliced
from tests.fuzz.values import json_values, spoilt
from tests.unit.policy.istio.test_parse import CHAPTER, EVERY_FIELD

GOOD: list[Any] = [one for one in yaml.safe_load_all(EVERY_FIELD) if one]
LIST = {"apiVersion": "v1", "kind": "List", "items": GOOD[1:]}
MESH = MeshSettings(trust_domain="example.org")
KNOWN = (Workload(namespace="web", labels=(("app", "web"),)),)


def test_hostile_policies_raise_only_config_errors() -> None:
    def target(text: str) -> None:
        found = documented(lambda: parse_documents([("f", text)]), ConfigError, size=len(text), per_byte=400)
        assert found is None or isinstance(found, Documents)
        if found is not None:
            documented(lambda: findings(found, MESH, KNOWN, ("b.test",)), size=len(text), per_byte=2000)

    for one in GOOD:
        target(json.dumps(one, default=str))
    assert len(parse_documents([("f", yaml.safe_dump(LIST))]).destination_rules) == 1
    documents = st.sampled_from([*GOOD, LIST]).flatmap(lambda good: spoilt(json.loads(json.dumps(good, default=str))))
    samples = [EVERY_FIELD.encode(), CHAPTER.read_bytes()]
    fuzzed(
        target,
        documents.map(json.dumps)
        | st.lists(documents, max_size=3).map(lambda several: yaml.safe_dump_all(several))
        | spliced(samples).map(lambda data: data.decode("latin-1"))
        | json_values.map(lambda value: json.dumps({"apiVersion": "security.istio.io/v1", "spec": value})),
    )
