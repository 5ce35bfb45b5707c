"""The verbs of ``meshtls capture``."""
