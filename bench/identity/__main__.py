from bench.identity.cli import main

main(prog_name="python -m bench.identity")
