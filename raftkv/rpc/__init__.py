"""The messages and services of the wire, one package a version of the protocol."""
