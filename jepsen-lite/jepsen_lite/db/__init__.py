"""The systems under test: how they are started, reached, broken and brought back."""
