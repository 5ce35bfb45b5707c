"""SVIDs: what makes a certificate one, and when a peer's is believed. Pure: no sockets, no clock of its own."""
