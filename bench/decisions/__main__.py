from bench.decisions.cli import main

main(prog_name="python -m bench.decisions")
