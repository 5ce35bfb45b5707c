"""Packets captured while they pass an interface of this machine (Linux, AF_PACKET), and written to a file."""
