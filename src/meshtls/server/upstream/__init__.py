"""A server below another authority: what signs its CA, where that CA's key is, and how it follows what changes above.

``authority`` has the interface; ``disk`` and ``nested`` implement it; ``following`` decides, and ``rotation`` acts.
"""
