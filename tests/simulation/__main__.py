"""``python -m tests.simulation --help``. Exit status 1: an invariant was broken; the run's story is printed."""

from __future__ import annotations

import sys

from tests.simulation.running import main

if __name__ == "__main__":
    sys.exit(main())
