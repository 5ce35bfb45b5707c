"""Workload attestation: what is true of the process at the other end of a Unix socket, as selectors. Linux only."""
