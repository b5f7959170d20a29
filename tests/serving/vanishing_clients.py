"""Clients of a server over raw sockets, a third of whom vanish, while the server is told to stop by SIGTERM.

In: the port and the process id of a server with `POST /predict`, and photos.
Out: how many requests ended how, by what the server owed them: `Tally`.
Why: raw sockets, because a client library ends what it began; these leave in the middle of the body, after the body, or
by a reset.
Surprise: a request is owed an answer if its last byte was handed to the kernel before the SIGTERM was sent, or if its
head and half of its body were (it was *begun*) and the rest followed. A connection that is made after the SIGTERM may
be refused.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

LIMIT = 60.0  # seconds for one answer; after that the client hangs
LEAVING = ("half of the body", "whole body", "half and reset", "whole and reset")
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s: closing sends RST in place of FIN


@dataclass
class Tally:
    """What became of the requests.

    Attributes:
        answers: by what the server owed (before, begun, after), the statuses, and: without Retry-After (a 429 or 503
            that does not say when to come back), unanswered (the connection ended), hangs, refused (no connection).
        vanished: clients who left, by how.
    """

    answers: dict[str, Counter[str]] = field(
        default_factory=lambda: {owed: Counter() for owed in ("before", "begun", "after")}
    )
    vanished: Counter[str] = field(default_factory=Counter)

    @property
    def lost(self) -> int:
        """How many requests were owed an answer, and got neither 200 nor a 429 or 503 with Retry-After."""
        fine = ("200", "429", "503")
        owed = self.answers["before"] + self.answers["begun"]
        return owed.total() - sum(owed[status] for status in fine) + self.answers["after"]["hangs"]


class Storm:
    """``count`` requests over ``connections`` connections at a time, with a SIGTERM after ``stop_at`` of them began."""

    def __init__(self, port: int, pid: int, photos: Sequence[bytes], seed: int, told: signal.Signals) -> None:
        self._port, self._pid, self._photos = port, pid, photos
        self._random = random.Random(seed)
        self._told, self._stopped = told, False
        self._left = self._stop_at = 0
        self.tally = Tally()

    async def blow(self, count: int, connections: int, stop_at: int) -> Tally:
        """Send all requests, and return what became of them."""
        self._left, self._stop_at = count, count - stop_at
        await asyncio.gather(*(self._clients() for _ in range(connections)))
        return self.tally

    async def _clients(self) -> None:
        """One client after the other, each with a connection of its own."""
        while self._left > 0:
            self._left -= 1
            if self._left == self._stop_at:
                os.kill(self._pid, self._told)
                self._stopped = True
            photo = self._random.choice(self._photos)
            leaving = self._random.choice(LEAVING) if self._random.random() < 1 / 3 else ""
            owed, what = await self._request(photo, leaving, pause=self._random.choice((0.0, 0.0, 0.02)))
            if not leaving:
                self.tally.answers[owed][what] += 1
            elif what:
                self.tally.vanished[leaving if what == "left" else what] += 1

    async def _request(self, photo: bytes, leaving: str, pause: float) -> tuple[str, str]:
        """What was owed to a request, and what became of it."""
        after = self._stopped
        owed = "after"
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return owed, "refused"
        try:
            head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Type: image/jpeg\r\n"
            half = len(photo) // 2
            writer.write(f"{head}Content-Length: {len(photo)}\r\nConnection: close\r\n\r\n".encode() + photo[:half])
            await writer.drain()
            owed = "after" if after or self._stopped else "begun"
            await asyncio.sleep(pause)
            if not leaving.startswith("half"):
                writer.write(photo[half:])
                await writer.drain()
                owed = "before" if owed == "begun" and not self._stopped else owed
            if leaving:
                await asyncio.sleep(pause)  # the server may be computing by now
                return owed, "left"
            return owed, await asyncio.wait_for(_answer(reader), LIMIT)
        except TimeoutError:
            return owed, "hangs"
        except (OSError, asyncio.IncompleteReadError):
            return owed, "unanswered"
        finally:
            if leaving.endswith("reset"):
                with suppress(OSError):  # the server was faster
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> str:
    """The status of a whole answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    lines = head.lower().splitlines()
    lengths = [int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")]
    await (reader.readexactly(lengths[0]) if lengths else reader.read())
    status = head.split()[1]
    comes_back = any(line.startswith("retry-after:") for line in lines)
    return "without Retry-After" if status in ("429", "503") and not comes_back else status


def storm(
    port: int,
    pid: int,
    photos: Sequence[bytes],
    count: int,
    *,
    stop_at: int,
    connections: int = 32,
    seed: int = 0,
    told: signal.Signals = signal.SIGTERM,
) -> Tally:
    """Send ``count`` requests, a third of whose clients vanish, and after ``stop_at`` of them the signal to ``pid``.

    Returns:
        What became of the requests.
    """
    return asyncio.run(Storm(port, pid, photos, seed, told).blow(count, connections, stop_at))
