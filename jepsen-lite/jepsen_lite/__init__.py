"""jepsen-lite: injects faults into a replicated store and checks what its clients observed."""
