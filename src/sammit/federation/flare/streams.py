"""Messages as files, through the engine's streams a piece at a time: no side holds one in memory to send it.

Every file has a key that only its two ends know; what comes under another is refused, and so is what is longer than
the end that takes it has said.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReturnCode, Shareable, make_reply
from nvflare.apis.streaming import ConsumerFactory, ObjectConsumer, ObjectProducer, StreamContext

from sammit.federation.flare import memory

CHANNEL = "sammit"
KEY, PIECE, LAST = "sammit.key", "sammit.piece", "sammit.last"
LENGTH = 4 << 20
"""Bytes of a piece."""


def send(path: Path, key: str, target: str, topic: str, fl_ctx: FLContext, timeout: float) -> bool:
    """Stream a file to "server" or to a site; whether all of it was taken.

    Args:
        path: the file.
        key: as the other end expects it.
        target: who.
        topic: "orders" or "replies".
        fl_ctx: the engine's context.
        timeout: seconds for each piece.
    """
    with path.open("rb") as file:
        taken = fl_ctx.get_engine().stream_objects(
            channel=CHANNEL,
            topic=topic,
            stream_ctx=StreamContext({KEY: key}),
            targets=[target],
            producer=_Reading(file, timeout),
            fl_ctx=fl_ctx,
        )
    memory.after(path.stat().st_size)
    return _succeeded(taken)


def _succeeded(result: Any) -> bool:
    """Of the engine's answer, a return code and what the producer made of the last replies."""
    code, taken = result if isinstance(result, tuple) else (ReturnCode.OK, result)
    return code == ReturnCode.OK and taken is True


class _Reading(ObjectProducer):
    """Reads a file out."""

    def __init__(self, file: BinaryIO, timeout: float) -> None:
        self.file, self.timeout, self.ended = file, timeout, False

    def produce(self, stream_ctx: StreamContext, fl_ctx: FLContext) -> tuple[Shareable, float]:
        """The next piece."""
        piece = self.file.read(LENGTH)
        self.ended = len(piece) < LENGTH
        message = Shareable()
        message[PIECE], message[LAST] = piece, self.ended
        return message, self.timeout

    def process_replies(self, replies: dict[str, Shareable], stream_ctx: StreamContext, fl_ctx: FLContext) -> Any:
        """False where a piece was refused, True after the last, None to go on."""
        if any(reply.get_return_code(ReturnCode.OK) != ReturnCode.OK for reply in replies.values()):
            return False
        return True if self.ended else None


@dataclass
class _Expected:
    """A file that is to come."""

    path: Path
    limit: int
    taken: bool = False
    whole: bool = False
    over: threading.Event = field(default_factory=threading.Event)


class _Writing(ObjectConsumer):
    """Writes a file down."""

    def __init__(self, expected: _Expected) -> None:
        self.expected, self.size = expected, 0
        self.file = expected.path.open("wb")

    def consume(self, shareable: Shareable, stream_ctx: StreamContext, fl_ctx: FLContext) -> tuple[bool, Shareable]:
        """Take a piece; refuse one that is none, or that makes the file too long."""
        piece = shareable.get(PIECE)
        if not isinstance(piece, bytes) or self.size + len(piece) > self.expected.limit:
            return False, make_reply(ReturnCode.BAD_REQUEST_DATA)
        self.file.write(piece)
        self.size += len(piece)
        self.expected.whole = bool(shareable.get(LAST))
        return not self.expected.whole, make_reply(ReturnCode.OK)

    def finalize(self, stream_ctx: StreamContext, fl_ctx: FLContext) -> None:
        """The end, good or bad."""
        self.file.close()
        if not self.expected.whole:
            self.expected.path.unlink(missing_ok=True)
        self.expected.over.set()
        memory.after(self.size)


class Inbox(ConsumerFactory):
    """Files that are expected, each in a folder under its key."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._expected: dict[str, _Expected] = {}

    def listen(self, topic: str, fl_ctx: FLContext) -> None:
        """Take the streams of a topic from now on."""
        fl_ctx.get_engine().register_stream_processing(channel=CHANNEL, topic=topic, factory=self)

    def expect(self, key: str, limit: int) -> None:
        """Let one file come under `key`, of `limit` bytes at most."""
        self._expected[key] = _Expected(self.folder / f"{key}.safetensors", limit)

    def get_consumer(self, stream_ctx: StreamContext, fl_ctx: FLContext) -> ObjectConsumer:
        """For the engine; raises ValueError for a file that nobody expects, or for a second one of its key."""
        expected = self._expected.get(str(stream_ctx.get(KEY)))
        if expected is None or expected.taken:
            raise ValueError("a stream came that nobody expects")
        expected.taken = True
        return _Writing(expected)

    def arrived(self, key: str, timeout: float = 0.0) -> Path | None:
        """The file of `key` once it is whole; None where it is not within `timeout` seconds, or was refused."""
        expected = self._expected[key]
        expected.over.wait(timeout)
        return expected.path if expected.whole and expected.over.is_set() else None

    def forget(self, key: str) -> None:
        """Expect it no more, and remove what came of it."""
        expected = self._expected.pop(key, None)
        if expected:
            expected.path.unlink(missing_ok=True)
