"""Measures identities: how fast they are minted, how soon they arrive, and what many of them cost."""
