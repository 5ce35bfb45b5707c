"""The CA server: registration entries, node attestation, signing, and pushing each change to the agents it concerns."""
