"""The `raftkv` command. Its modules import gRPC and the server only when a command runs."""
