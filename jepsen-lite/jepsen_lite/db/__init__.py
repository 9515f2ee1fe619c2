"""The databases under test: how to start, reach, break and repair them."""
