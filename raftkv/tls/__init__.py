"""TLS on both ports of a node: certificate files, credentials for gRPC, and who a caller is."""
