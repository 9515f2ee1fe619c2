"""Bugs that real systems shipped, to be planted in raftkv by patching it: the proof that the
harness notices. Production code holds no switch for any of them.
"""
