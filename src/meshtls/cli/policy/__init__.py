"""``meshtls policy``: what policies say, before and while they are enforced."""
