"""The client protocol that workloads use, and its adapters for raftkv and etcd."""
