"""The simulation holds its invariants, replays a seed exactly, and finds planted bugs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.simulation.plants import PLANTS, planted
from tests.simulation.running import Simulation, simulation

#: Seeds that CI runs; `make simulate` runs more.
_SEEDS = int(os.environ.get("SIMULATE_SEEDS", "200"))
#: A planted bug has to be found within this many seeds.
_MOST = 20


@pytest.fixture
def simulated() -> Iterator[Simulation]:
    with simulation() as made:
        yield made


@pytest.mark.timeout(1800)
def test_invariants_hold_for_every_seed() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seeds", str(_SEEDS), "--jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{_SEEDS} seeds, 0 failed" in done.stdout


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 9], ids=["alone", "with a partner"])
def test_a_seed_replays_exactly(simulated: Simulation, seed: int) -> None:
    first, again = simulated.run(seed), simulated.run(seed)

    assert first.story == again.story
    assert (first.steps, first.signed, first.accepted) == (again.steps, again.signed, again.accepted)
    assert first.signed > 10
    assert first.accepted > 10


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_found(simulated: Simulation, name: str) -> None:
    with planted(name):
        found = next((run for run in map(simulated.run, range(1, _MOST)) if run.violation), None)

    assert found is not None
    assert found.story[-1].endswith(f"VIOLATION: {found.violation}")
