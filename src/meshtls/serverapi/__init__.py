"""Clients of the server's API, for agents and administrators, and the conversion of its messages to our values."""
