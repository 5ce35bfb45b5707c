from bench.dashboard.cli import main

main(prog_name="python -m bench.dashboard")
