"""The agent as a client of a CA server: node attestation, the agent's own SVID, and the sync of its entries."""
