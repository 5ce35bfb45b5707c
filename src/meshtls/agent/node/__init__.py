"""The agent as a client of a CA server: how it proves its node, keeps its own SVID, and follows what it may serve."""
