"""The client library. What is public is what `raftkv` itself exports."""
