"""Measures identities: the rate of minting, the delay until they arrive, and the cost of many."""
