"""The agent: where a workload's SVID comes from, and its rotation."""
