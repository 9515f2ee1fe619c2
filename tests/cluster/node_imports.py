"""What a node imports. Only the process that nodes are forked from imports this module."""

import os

from raftkv.cli.event_loop import GRPC_ENVIRONMENT

# gRPC reads it when it is first imported.
os.environ.update(GRPC_ENVIRONMENT)

import uvloop  # noqa: F401

import raftkv.cli.main
import raftkv.server.process  # noqa: F401
