"""What the analysis tells of each capture of the corpus is what its row of the table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corpus.case import read, told
from tests.corpus.corpus import CORPUS
from tests.corpus.handshakes import HANDSHAKES
from tests.corpus.inside import INSIDE
from tests.corpus.networks import NETWORKS


@pytest.mark.parametrize("name", CORPUS)
def test_the_record_of_a_capture_is_the_expected_one(name: str, tmp_path: Path) -> None:
    case = CORPUS[name]
    found = read(case.make(tmp_path))
    (record,) = found.records
    assert told(record, sizes_vary=case.sizes_vary) == case.told
    assert found.breaks.partition(": ")[2] == case.breaks


@pytest.mark.parametrize("name", CORPUS)
def test_without_keys_nothing_is_told_that_the_keys_disprove(name: str, tmp_path: Path) -> None:
    made = CORPUS[name].make(tmp_path)
    (with_keys,), (without,) = read(made).records, read(made._replace(keys=b"")).records
    assert without.outcome in (None, with_keys.outcome)
    for record in (with_keys, without):
        assert record.outcome is not None or record.problem or record.unknown_because


def test_no_two_cases_have_one_name() -> None:
    assert len(CORPUS) == len(HANDSHAKES) + len(INSIDE) + len(NETWORKS) >= 40
