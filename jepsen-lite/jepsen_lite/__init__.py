"""jepsen-lite: breaks a replicated store on purpose, and judges what its clients saw."""
