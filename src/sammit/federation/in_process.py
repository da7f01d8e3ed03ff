"""The local engine: sites take turns in one process, in one model. It never pretends to be distributed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from sammit.errors import UserError
from sammit.federation.exchange import Delivery
from sammit.federation.messages import decode, encode
from sammit.files import FullDiskError
from sammit.vocabulary import Failure, Message, Reply

log = logging.getLogger(__name__)


class Handles(Protocol):
    """A site's side: a worker, or a hospital."""

    def handle(self, message: Any, /) -> Reply:
        """The reply to a message."""
        ...


class InProcess:
    """Carries messages to sites of this process, as the bytes that a network would carry."""

    def __init__(self, sites: Mapping[str, Handles]) -> None:
        self.sites = sites

    def exchange(self, orders: Iterable[Message]) -> Iterator[Delivery]:
        """One delivery an order, in the orders' sequence."""
        for order in orders:
            yield self._carried(order)

    def _carried(self, order: Message) -> Delivery:
        """One order there and its reply back; the bytes are gone by the time that the reply is used."""
        down = encode(order)
        up = encode(self._answer(decode(down)))
        return Delivery(decode(up), len(down), len(up))

    def _answer(self, order: Message) -> Reply:
        """A site's reply; what it raises becomes a Failure, so that one site cannot stop the others.

        Raises:
            FullDiskError: all sites of this process share the disk, so no other site would fare better.
        """
        try:
            return self.sites[order.site].handle(order)
        except FullDiskError:
            raise
        except Exception as error:
            log.debug("site %s", order.site, exc_info=True)
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            reason = " ".join(f"{kind}{error}".split())
            return Failure(order.site, order.round, reason)
