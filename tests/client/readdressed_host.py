"""A server that moves to another address of its host name; run by `test_readdressed_host.py`.

Runs in a mount namespace of its own, where the file `argv[1]` is /etc/hosts. Prints after how many
seconds at the new address it is found.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import grpc.aio

from raftkv.client.connection.grpc_link import GrpcLink
from raftkv.errors import ConnectionFailed, OutcomeUnknown
from tests.client.test_grpc_link import METHOD, Echo


def write_hosts(hosts: Path, address: str) -> None:
    hosts.write_text(f"{address} node\n")


async def serve(address: str, port: int = 0) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server(handlers=[Echo()])
    port = server.add_insecure_port(f"{address}:{port}")
    await server.start()
    return server, port


async def found_after(hosts: Path) -> float:
    write_hosts(hosts, "127.0.0.2")
    server, port = await serve("127.0.0.2")
    link = GrpcLink(f"node:{port}")
    await link.call(METHOD, b"there", 5.0)
    await server.stop(None)
    write_hosts(hosts, "127.0.0.3")
    server, _ = await serve("127.0.0.3", port)
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        try:
            await link.call(METHOD, b"and there", 0.5)
        except (ConnectionFailed, OutcomeUnknown):
            await asyncio.sleep(0.01)
        else:
            break
    took_s = loop.time() - began
    await link.close()
    await server.stop(None)
    return took_s


if __name__ == "__main__":
    print(asyncio.run(found_after(Path(sys.argv[1]))))
