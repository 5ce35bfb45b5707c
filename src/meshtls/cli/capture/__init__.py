"""``meshtls capture``: what a capture file says of the connections in it."""
