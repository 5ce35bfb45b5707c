from bench.strangers.cli import main

main(prog_name="python -m bench.strangers")
