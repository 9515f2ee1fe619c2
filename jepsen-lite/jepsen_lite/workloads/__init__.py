"""What clients do, and what the answers must look like."""
