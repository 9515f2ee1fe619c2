"""What a client can do to a server with HTTP/2 frames, each as one function of a random number.

Each takes the address of a port. It ends by itself, also where the server ends the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from random import Random

from google.protobuf.descriptor import MethodDescriptor
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from raftkv.rpc.v1 import api_pb2, kv_pb2
from tests.fuzz.calls import CHANGING, METHODS, PEER_METHODS, path_of, request_of
from tests.fuzz.connections import (
    FRAME_BYTES,
    PREFACE,
    WINDOW_BYTES,
    Connection,
    connected,
    frame_bytes,
    grpc_message,
    headers_of,
    raw,
)

LINGER_S_MAX = 3.0
ALL_METHODS: list[MethodDescriptor] = [*METHODS, *PEER_METHODS]
ANSWERED_AT_LENGTH = [
    "/raftkv.rpc.v1.KV/Range",
    "/raftkv.rpc.v1.Watch/Open",
    "/raftkv.rpc.v1.Pipeline/Open",
    "/raftkv.rpc.v1.Lease/KeepAlive",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
]

_ALL = kv_pb2.Range(key=b"\x00", range_end=b"\x00", limit=60)
EVERYTHING = [
    ("/raftkv.rpc.v1.KV/Range", api_pb2.RangeRequest(range=_ALL, level=1).SerializeToString()),
    (
        "/raftkv.rpc.v1.Pipeline/Open",
        api_pb2.PipelineRequest(
            number=1, timeout_ms=3_000, reads=api_pb2.ReadBatch(ranges=[_ALL], level=1)
        ).SerializeToString(),
    ),
    (
        "/raftkv.rpc.v1.Watch/Open",
        api_pb2.WatchRequest(
            creates=[
                api_pb2.WatchCreate(watch_id=n, key=b"\x00", range_end=b"\x00", start_revision=1)
                for n in range(20)
            ]
        ).SerializeToString(),
    ),
]
"""Calls whose answers are as large as answers get."""

Attack = Callable[[Random, str], Awaitable[None]]
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__.replace("_", " ")] = function
    return function


async def _linger(rng: Random) -> None:
    await asyncio.sleep(rng.random() * LINGER_S_MAX)


def _method(rng: Random, path: str) -> MethodDescriptor:
    return next((each for each in ALL_METHODS if path_of(each) == path), rng.choice(ALL_METHODS))


# ---- floods ----------------------------------------------------------------------------


@attack
async def rapid_reset(rng: Random, address: str) -> None:
    """Streams that are opened and reset at once."""
    async with connected(address) as connection:
        for _ in range(rng.choice((10, 100))):
            burst = b""
            for _ in range(20):
                opening = connection.open(headers_of(path_of(rng.choice(ALL_METHODS))))
                burst += opening.serialize() + RstStreamFrame(opening.stream_id, 8).serialize()
            await connection.send(burst)


@attack
async def floods_of_control_frames(rng: Random, address: str) -> None:
    """Frames that cost their sender nothing and want an answer, which may not be read."""
    kinds = (
        PingFrame(0, b"12345678").serialize(),
        SettingsFrame(0, {4: WINDOW_BYTES}).serialize(),
        SettingsFrame(0, flags=["ACK"]).serialize(),
        WindowUpdateFrame(0, 1).serialize(),
        PriorityFrame(3, depends_on=5, stream_weight=7).serialize(),
        RstStreamFrame(1, 8).serialize(),
        frame_bytes(0xFA, 0xFF, 1, b"unknown"),
    )
    async with connected(address, deaf=rng.random() < 0.5) as connection:
        await connection.call("/grpc.health.v1.Health/Watch", grpc_message(b""))
        for _ in range(rng.choice((10, 100))):
            await connection.send(rng.choice(kinds) * 500)


@attack
async def endless_headers(rng: Random, address: str) -> None:
    """CONTINUATION after CONTINUATION, empty or full, of headers that never end."""
    async with connected(address) as connection:
        opening = connection.open(headers_of("/raftkv.rpc.v1.KV/Range"), whole=False)
        await connection.send(opening)
        block = rng.choice((b"", b"\x00\x01a\x01b" * 100, b"\x00\x01a\x7f\x80\x7f" + b"v" * 16_000))
        more = ContinuationFrame(opening.stream_id, block).serialize()
        for _ in range(rng.choice((10, 200))):
            await connection.send(more * 10)


@attack
async def empty_frames_of_data(rng: Random, address: str) -> None:
    async with connected(address) as connection:
        stream = await connection.call("/raftkv.rpc.v1.Pipeline/Open", b"", end=False)
        for _ in range(rng.choice((10, 100))):
            await connection.send(DataFrame(stream, b"").serialize() * 500)


@attack
async def connections_come_and_go(rng: Random, address: str) -> None:
    for _ in range(rng.choice((10, 100))):
        async with raw(address) as connection:
            if rng.random() < 0.7:
                await connection.send(
                    rng.choice((PREFACE, PREFACE[:10], b"", b"GET / HTTP/1.1\r\n"))
                )
            if rng.random() < 0.5:
                connection.reset()


@attack
async def many_connections_that_say_nothing(rng: Random, address: str) -> None:
    async with contextlib.AsyncExitStack() as held:
        for _ in range(rng.choice((10, 60))):
            connection = await held.enter_async_context(raw(address))
            await connection.send(rng.choice((b"", b"P", PREFACE)))
        await _linger(rng)


@attack
async def thousands_of_streams(rng: Random, address: str) -> None:
    async with connected(address) as connection:
        path = rng.choice((*ANSWERED_AT_LENGTH, "/raftkv.rpc.v1.Lock/Wait"))
        request = grpc_message(request_of(rng, _method(rng, path))[:1_000])
        for _ in range(rng.choice((100, 2_000))):
            await connection.call(path, request, end=rng.random() < 0.5)
        await _linger(rng)


# ---- what is held ----------------------------------------------------------------------


@attack
async def messages_sent_by_half(rng: Random, address: str) -> None:
    """They say that they are long, and the rest never comes."""
    async with connected(address) as connection:
        for _ in range(rng.choice((1, 20, 100))):
            said = rng.choice((1, 1_000_000, 31 << 20, 2**32 - 1))
            path = path_of(rng.choice(ALL_METHODS))
            stream = await connection.call(path, grpc_message(b"", said), end=False)
            if said > 1:
                await connection.fill(stream, rng.choice((0, 600)))
        await _linger(rng)


@attack
async def large_messages_sent_by_half(rng: Random, address: str) -> None:
    """Most of what a server takes, as often as it takes it, at once."""

    async def send(path: str) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with connected(address) as connection:
                message = grpc_message(b"", 31 << 20)
                stream = await connection.call(path, message, end=False)
                await connection.fill(stream, 30 << 20)
                await asyncio.sleep(LINGER_S_MAX)

    methods = [rng.choice(ALL_METHODS) for _ in range(rng.choice((2, 12)))]
    await asyncio.gather(*(send(path_of(method)) for method in methods))


@attack
async def answers_never_read(rng: Random, address: str) -> None:
    """No window for replies, or a socket that is never read."""
    settings, deaf = rng.choice((({4: 0}, False), ({4: 1}, False), ({4: 2**31 - 1}, True)))
    async with connected(address, settings=settings, deaf=deaf) as connection:
        if deaf:
            await connection.send(WindowUpdateFrame(0, 2**31 - 1 - WINDOW_BYTES))
        everything = rng.random() < 0.5
        for _ in range(rng.choice((1, 50, 200))):
            path = rng.choice(ANSWERED_AT_LENGTH)
            data = request_of(rng, _method(rng, path))[:2_000]
            if everything:
                path, data = rng.choice(EVERYTHING)
            await connection.call(path, grpc_message(data), end=rng.random() < 0.5)
        await _linger(rng)


# ---- what is wrong ---------------------------------------------------------------------


@attack
async def header_bombs(rng: Random, address: str) -> None:
    """Large headers, very many, or a few bytes that stand for many by the table of hpack."""
    async with connected(address) as connection:
        headers = headers_of("/raftkv.rpc.v1.KV/Range")
        what = rng.randrange(4)
        if what == 0:
            headers.append(("x-large", "v" * rng.choice((4_000, 8_000, 15_000))))
        elif what == 1:
            headers += [(f"x-{n}", "v") for n in range(rng.choice((100, 700)))]
        elif what == 2:
            headers += [("x-same", "v" * 3_000)] * rng.choice((10, 2_000))
        else:
            headers.append(("raftkv-hello-bin", "not base 64 \x7f"))
        opening = connection.open(headers, end=True)
        pieces = [
            opening.data[at : at + FRAME_BYTES] for at in range(0, len(opening.data), FRAME_BYTES)
        ]
        opening.data = pieces[0]
        if len(pieces) > 1:
            opening.flags.discard("END_HEADERS")
        await connection.send(opening)
        for number, piece in enumerate(pieces[1:], 2):
            last = ["END_HEADERS"] if number == len(pieces) else []
            await connection.send(ContinuationFrame(opening.stream_id, piece, flags=last))
        await _linger(rng)


@attack
async def calls_that_are_none(rng: Random, address: str) -> None:
    """Headers that HTTP or gRPC forbids."""
    path = path_of(rng.choice([each for each in ALL_METHODS if each.name not in CHANGING]))
    good = headers_of(path)
    lists = (
        good[1:],
        good[:2] + good[3:],
        [*good, (":path", path)],
        [*good, ("UPPER", "case")],
        [*good, ("connection", "close"), ("transfer-encoding", "chunked")],
        [*good[:-1], ("content-type", "text/html")],
        [*good, ("grpc-timeout", rng.choice(("", "1", "99999999H", "-1S", "1x", "0n")))],
        [*good, ("grpc-encoding", rng.choice(("gzip", "deflate", "none-such")))],
        [(":method", rng.choice(("GET", "PUT", "TRACE"))), *good[1:]],
        headers_of(
            rng.choice(("", "/", "*", "//", "/raftkv.rpc.v1.KV", "/%00/x", "/" + "p" * 5_000))
        ),
        [],
    )
    async with connected(address) as connection:
        for _ in range(rng.choice((1, 30))):
            opening = connection.open(rng.choice(lists))
            body = rng.choice(
                (b"", grpc_message(b""), b"\x01" + grpc_message(b"")[1:], b"\xff" * 50)
            )
            await connection.send(opening)
            await connection.send(DataFrame(opening.stream_id, body, flags=["END_STREAM"]))
        await _linger(rng)


_WRONG: tuple[Callable[[Random, int], bytes], ...] = (
    lambda rng, stream: frame_bytes(8, 0, rng.choice((0, stream)), struct.pack(">I", 0)),
    lambda rng, stream: (
        frame_bytes(8, 0, rng.choice((0, stream)), struct.pack(">I", 2**31 - 1)) * 2
    ),
    lambda rng, stream: frame_bytes(8, 0, stream, b"abc"),
    lambda rng, stream: frame_bytes(4, 0, 0, struct.pack(">HI", 4, 2**31)),
    lambda rng, stream: frame_bytes(4, 0, 0, struct.pack(">HI", 5, rng.choice((0, 1, 2**24)))),
    lambda rng, stream: frame_bytes(4, 0, 0, struct.pack(">HI", 2, 7)),
    lambda rng, stream: frame_bytes(4, 0, 0, struct.pack(">HI", 1, rng.choice((0, 2**32 - 1)))),
    lambda rng, stream: frame_bytes(4, 0, 0, rng.randbytes(6 * rng.choice((1, 100)))),
    lambda rng, stream: frame_bytes(4, 0, 0, b"12345"),
    lambda rng, stream: frame_bytes(4, 1, 0, b"123456"),
    lambda rng, stream: frame_bytes(4, 0, stream, b""),
    lambda rng, stream: frame_bytes(6, 0, rng.choice((0, stream)), b"1234567"),
    lambda rng, stream: frame_bytes(0, 0, 0, b"data of no stream"),
    lambda rng, stream: frame_bytes(0, 8, stream, b"\xff"),
    lambda rng, stream: frame_bytes(0, 0, stream + 100, b"data of a stream that is idle"),
    lambda rng, stream: frame_bytes(0, 0, stream, b"x" * (FRAME_BYTES + 1)),
    lambda rng, stream: frame_bytes(1, 4, rng.choice((0, 2, 1)), b"\x82"),
    lambda rng, stream: frame_bytes(1, 4, stream + 2, rng.randbytes(30)),
    lambda rng, stream: frame_bytes(1, 0x2C, stream + 2, b"\xff\x00"),
    lambda rng, stream: frame_bytes(9, 4, stream, b"\x82"),
    lambda rng, stream: frame_bytes(2, 0, stream, struct.pack(">IB", stream, 1)),
    lambda rng, stream: frame_bytes(3, 0, rng.choice((0, stream + 50)), struct.pack(">I", 8)),
    lambda rng, stream: GoAwayFrame(0, stream, 0, b"debug" * 100).serialize(),
    lambda rng, stream: PushPromiseFrame(stream, 2, b"\x82", flags=["END_HEADERS"]).serialize(),
    lambda rng, stream: rng.randbytes(rng.choice((1, 9, 1_000))),
    lambda rng, stream: b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + b"x" * 100,
    lambda rng, stream: PREFACE,
)


@attack
async def frames_that_break_the_rules(rng: Random, address: str) -> None:
    """Among a call that is as it should be."""
    for _ in range(rng.choice((1, 10))):
        async with connected(address) as connection:
            stream = await connection.call("/grpc.health.v1.Health/Watch", grpc_message(b""))
            with contextlib.suppress(OSError):
                for _ in range(rng.choice((1, 3))):
                    await connection.send(rng.choice(_WRONG)(rng, stream))
                await asyncio.sleep(rng.random() * 0.1)


@attack
async def frames_in_any_order(rng: Random, address: str) -> None:
    """Right and wrong ones, on a few streams, with flipped bits now and then."""
    async with connected(address, deaf=rng.random() < 0.2) as connection:
        stream = 1
        for _ in range(rng.choice((5, 50))):
            data = _any_frame(rng, connection, stream)
            stream = rng.randrange(1, 20)
            if rng.random() < 0.1:
                flipped = bytearray(data)
                flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
                data = bytes(flipped)
            await connection.send(data)
        await _linger(rng)


def _any_frame(rng: Random, connection: Connection, stream: int) -> bytes:
    what = rng.randrange(8)
    if what < 3:
        method = rng.choice(ALL_METHODS)
        opening = connection.open(headers_of(path_of(method)))
        message = grpc_message(request_of(rng, method)[: FRAME_BYTES - 5])
        return bytes(opening.serialize() + DataFrame(opening.stream_id, message).serialize())
    if what < 6:
        return rng.choice(_WRONG)(rng, stream)
    return bytes(
        rng.choice(
            (
                PingFrame(0, b"12345678"),
                WindowUpdateFrame(stream, 1_000),
                RstStreamFrame(stream, rng.choice((0, 8, 2**32 - 1))),
                PriorityFrame(stream, depends_on=1, stream_weight=255, exclusive=True),
                DataFrame(stream, b"x" * 10, pad_length=200, flags=["PADDED"]),
                DataFrame(stream, b"", flags=["END_STREAM"]),
                SettingsFrame(0, {3: 1, 4: rng.choice((0, 1, 2**31 - 1)), 5: FRAME_BYTES}),
            )
        ).serialize()
    )


@attack
async def no_http_at_all(rng: Random, address: str) -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # of TLS
    request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\n\r\n"
    for _ in range(rng.choice((1, 20))):
        async with raw(address) as connection:
            await connection.send(
                rng.choice((hello + rng.randbytes(300), request, rng.randbytes(1_000)))
            )
            await asyncio.sleep(rng.random() * 0.05)
