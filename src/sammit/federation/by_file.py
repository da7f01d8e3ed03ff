"""Messages between this process's own hospitals and server as files, each checked as one from elsewhere is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from sammit.federation.exchange import Delivery
from sammit.federation.posted import post, read_reply
from sammit.vocabulary import Message


class Answers(Protocol):
    """A site's side, behind its door: a `Hospital`."""

    def answer(self, order: Path, reply: Path) -> None:
        """Read the message in a file and write the reply to another."""
        ...


class ByFile:
    """A Transport that does what an engine does with messages, one site after another."""

    def __init__(self, sites: Mapping[str, Answers], folder: Path) -> None:
        """
        Args:
            sites: by name.
            folder: for the messages; a reply is removed once the next one is asked for.
        """
        self.sites, self.folder = sites, folder
        folder.mkdir(parents=True, exist_ok=True)

    def exchange(self, orders: Iterable[Message]) -> Iterator[Delivery]:
        """One delivery an order, in the orders' sequence."""
        sent = [(message.site, message.round, self._posted(number, message)) for number, message in enumerate(orders)]
        for site, index, order in sent:
            reply = order.with_suffix(".reply")
            self.sites[site].answer(order, reply)
            yield Delivery(read_reply(reply, site, index), order.stat().st_size, reply.stat().st_size)
            for path in (order, reply):
                path.unlink(missing_ok=True)

    def _posted(self, number: int, message: Message) -> Path:
        path = self.folder / f"{number}.safetensors"
        post(message, path)
        return path
