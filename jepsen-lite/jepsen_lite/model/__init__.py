"""An independent model of the replicated state machine: plain, slow, and written from documents.

The model was written from the protocol files and docs/ alone. It imports nothing of raftkv but the
generated messages, so that a mistake of `raftkv/kv` is not repeated here. The simulator feeds it
every committed entry (`sim/checks/model_comparison.py`), and the tests of `raftkv/kv` run it beside
the state machine.
"""
