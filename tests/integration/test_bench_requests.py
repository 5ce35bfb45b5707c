"""The benchmark of requests works from end to end on a tiny scale; speed is not asserted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.requests.cli import measure
from bench.requests.contenders import Contender, all_contenders
from bench.requests.kinds import KINDS, Kind
from tests.support.require import require

ROOT = Path(__file__).resolve().parents[2]


MEASURED = [(contender, kind) for contender in all_contenders(ROOT) for kind in KINDS if contender.reads(kind)]


@pytest.mark.parametrize(
    ("contender", "kind"), MEASURED, ids=[f"{contender.name}-{kind.name}" for contender, kind in MEASURED]
)
def test_each_pair_answers_all_requests_of_each_kind(contender: Contender, kind: Kind) -> None:
    require("h2load", shutil.which("h2load") is not None, "install it (Debian: nghttp2-client)")
    if contender.name == "envoy" and not (ROOT / ".venv-envoy").exists():
        pytest.skip("a test run doesn't install Envoy; a benchmark run does")
    if missing := contender.missing():
        pytest.skip(missing)
    cell = measure(contender, kind, 0, 100)
    assert cell.error is None
    assert cell.requests_per_second
