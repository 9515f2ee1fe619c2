"""Judges of histories. They know what clients were told, never how the system works."""
