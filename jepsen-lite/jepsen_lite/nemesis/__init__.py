"""What breaks a system of real processes: faults as values, how they are done and taken back."""
