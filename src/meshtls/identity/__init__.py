"""Obtaining and renewing a program's own SVID, with one renewal loop for all programs of the mesh."""
