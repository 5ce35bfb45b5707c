"""Mutation tests: small wrong edits of the code that decides who may talk, each of which some test has to notice.

``make mutants`` runs them. ``edits`` makes the mutants of a file, ``targets`` says which files and which of their
tests, and which mutants change nothing that can be observed; ``run`` runs the tests on each.
"""
