"""The deterministic simulator: the production node, server handlers and client in one thread, on
virtual time, over a simulated network, disks and clocks. One seed decides a whole run.
"""
