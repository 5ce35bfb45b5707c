"""tlslite-ng, whose first import loads ``asyncore`` where Python still has it: 3.11 calls that deprecated."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "The asyncore module is deprecated", DeprecationWarning)
    import tlslite  # noqa: F401
