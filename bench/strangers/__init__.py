"""What a refused stranger costs: ``python -m bench.strangers``."""
