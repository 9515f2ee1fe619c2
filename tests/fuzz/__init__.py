"""Seeded, structured noise for real nodes: HTTP/2 frames and protobuf messages, valid and broken.

`python -m tests.fuzz --seconds 600 --seed 7`, which is `scripts/soak fuzz`.
"""
