"""Workload attestation: the selectors of the process at the other end of a Unix socket. Linux only."""
