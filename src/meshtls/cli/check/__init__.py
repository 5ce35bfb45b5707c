"""``meshtls check``: what is wrong on this machine, with the reason and what to do."""
