"""A client that sends good images and garbage, hangs up, uploads slowly, and sets deadlines that are too short.

Many connections, each sending one request after the other over plain sockets; the kind of each request is drawn, and
what came back is tallied by kind and status.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

KINDS = {"good": 60, "garbage": 12, "leave": 10, "leave early": 6, "dawdle": 4, "hurry": 8}  # weights
DAWDLE_S = 0.02  # between the pieces of a slow upload
PIECES = 4


@dataclass(frozen=True, slots=True)
class Image:
    """An image file, and the predicted loss by which its own answer is recognised."""

    body: bytes
    predicted_loss: float


@dataclass
class Chaos:
    """`answers` counts (kind, status), 0 for none; `wrong` holds answers that belong to another image."""

    host: str
    port: int
    images: Sequence[Image]
    garbage: Sequence[bytes]
    is_own: Callable[[Image, dict[str, Any]], bool]
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[Any] = field(default_factory=list)

    async def run(self, requests: int, connections: int, seed: int) -> None:
        left = iter(range(requests))
        await asyncio.gather(*(self._connection(left, random.Random(seed + n)) for n in range(connections)))

    async def _connection(self, left: Any, rng: random.Random) -> None:
        stream = None
        for _ in left:
            kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
            try:
                stream = stream or await asyncio.open_connection(self.host, self.port)
                stays = await self._request(kind, rng, *stream)
            except (ConnectionError, asyncio.IncompleteReadError):
                self.answers[kind, 0] += 1
                stays = False
            if not stays and stream:
                stream[1].close()
                stream = None
        if stream:
            stream[1].close()

    async def _request(
        self, kind: str, rng: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Whether the connection can be used again."""
        image = rng.choice(self.images)
        body = rng.choice(self.garbage) if kind == "garbage" else image.body
        timeout = b"X-Request-Timeout-Ms: 1\r\n" if kind == "hurry" else b""
        head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n" % (timeout, len(body))
        writer.write(head)
        if kind == "leave early":
            writer.write(body[: len(body) // 2])
            await writer.drain()
            return False
        pieces = PIECES if kind == "dawdle" else 1
        size = -(-len(body) // pieces) or 1
        for start in range(0, len(body), size):
            writer.write(body[start : start + size])
            await asyncio.sleep(DAWDLE_S if kind == "dawdle" else 0)
        await writer.drain()
        if kind == "leave":
            return False
        status, answer = await _read(reader)
        self.answers[kind, status] += 1
        if status == 200 and not self.is_own(image, answer):
            self.wrong.append((kind, image.predicted_loss, answer))
        return True


async def _read(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    return int(head.split()[1]), orjson.loads(await reader.readexactly(length))
