from bench.requests.cli import main

main(prog_name="python -m bench.requests")
