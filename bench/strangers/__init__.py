"""The cost of a refused stranger: ``python -m bench.strangers``."""
