"""All captures of the corpus, by their names."""

from __future__ import annotations

from collections.abc import Mapping

from tests.corpus.case import Case
from tests.corpus.handshakes import HANDSHAKES
from tests.corpus.inside import INSIDE
from tests.corpus.networks import NETWORKS

__all__ = ["CORPUS"]

CORPUS: Mapping[str, Case] = {**HANDSHAKES, **INSIDE, **NETWORKS}
