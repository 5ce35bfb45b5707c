"""Mutation tests: small wrong edits of the code that verifies and authorizes peers, each of which a test must detect.

``make mutants`` runs them. ``edits`` makes the mutants of a file, ``targets`` lists files, their tests, and mutants
without an observable effect; ``run`` runs the tests on each.
"""
