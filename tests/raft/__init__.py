"""The consensus core under test: a simulated cluster, the paper's claims, and random runs."""
