"""How a program of the mesh comes by an SVID of its own, and keeps it fresh: one renewal loop for all of them."""
