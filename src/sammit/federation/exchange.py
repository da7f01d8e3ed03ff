"""What an engine must do for the round loop: carry messages to sites, and bring back their replies in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from sammit.vocabulary import Failure, Message, Reply


@dataclass(frozen=True)
class Delivery:
    """A reply and the bytes that the order and the reply took on the way."""

    reply: Reply
    down_bytes: int
    up_bytes: int


class Transport(Protocol):
    """What an engine must do: carry messages to sites and bring back their replies, in any order."""

    def exchange(self, orders: Iterable[Message]) -> Iterator[Delivery]:
        """One delivery for each message; a site that cannot answer delivers a Failure.

        Messages are made as they are asked for: an engine that sends one at a time need not hold them all.
        """
        ...


def in_site_order(
    deliveries: Iterable[Delivery],
    sites: Sequence[str],
    round_index: int,
    put: Callable[[Reply], Reply] = lambda reply: reply,
) -> Iterator[Delivery]:
    """One delivery for each site, in the sites' sequence, whatever the order of arrival.

    One that comes early waits for those before it; a site that never answers gets a Failure; what nobody asked for,
    or a second answer, is dropped.

    Args:
        deliveries: as they arrive.
        sites: who was asked.
        round_index: for the Failure.
        put: makes of a reply that must wait one that takes no memory.
    """
    waiting: dict[str, Delivery] = {}
    left = list(reversed(sites))
    for delivery in deliveries:
        site = delivery.reply.site
        if site in waiting or site not in left:
            continue
        waiting[site] = delivery if site == left[-1] else replace(delivery, reply=put(delivery.reply))
        del delivery  # or it would be held while those behind it are used
        while left and left[-1] in waiting:
            yield waiting.pop(left.pop())
    for site in reversed(left):
        silent = Delivery(Failure(site, round_index, "did not answer"), 0, 0)
        yield waiting.pop(site, silent)
