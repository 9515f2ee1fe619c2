"""Workloads: the operations of clients, and the checkers for their results."""
