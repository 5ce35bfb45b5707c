"""``python -m meshtls``."""

from meshtls.cli.main import main

main()
