"""The vocabulary of faults, for real runs (`nemesis/`) and the simulator (`sim/injection/`)."""
