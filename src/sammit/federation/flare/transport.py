"""The round loop's Transport over the engine: an order waits as a file that its site fetches, a reply comes as one.

A site that gives no sign of life for some time is lost: its order fails, and so do later ones, at once, until it does.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from nvflare.apis.controller_spec import ClientTask, Task, TaskCompletionStatus
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import ReturnCode, Shareable, make_reply
from nvflare.apis.signal import Signal

from sammit.errors import UserError
from sammit.federation.exchange import Delivery
from sammit.federation.flare import memory
from sammit.federation.flare.job import ALIVE, FETCH, TASK, Limits
from sammit.federation.flare.streams import Inbox, send
from sammit.federation.posted import post, read_reply
from sammit.vocabulary import Failure, Message

LOST = "is lost: no sign of life"


@dataclass
class _Sent:
    """An order on its way."""

    message: Message
    path: Path
    size: int
    task: Task
    since: float = field(default_factory=time.monotonic)


class Lives:
    """When each site was last heard of, and which are lost."""

    def __init__(self, silence: float) -> None:
        self.silence = silence
        self._heard: dict[str, float] = {}
        self._lost: dict[str, float] = {}

    def hear(self, site: str) -> None:
        """A sign of life."""
        self._heard[site] = time.monotonic()

    def silent(self, site: str, since: float) -> bool:
        """Whether a site that was asked something at `since` has been silent for too long; then it is lost."""
        now = time.monotonic()
        if now - max(since, self._heard.get(site, since)) < self.silence:
            return False
        self._lost[site] = now
        return True

    def lost(self) -> list[str]:
        """Those that were lost, and have not been heard of since."""
        return sorted(site for site, at in self._lost.items() if self._heard.get(site, 0.0) < at)


class FlareTransport:
    """Carries messages to sites through one job of the engine."""

    def __init__(self, controller: Controller, fl_ctx: FLContext, abort: Signal, folder: Path, limits: Limits) -> None:
        """
        Args:
            controller: the job's; it hands out tasks.
            fl_ctx, abort: of its control flow.
            folder: for files on their way.
            limits: how long and how large.
        """
        self.controller, self.fl_ctx, self.abort, self.limits = controller, fl_ctx, abort, limits
        self.lives = Lives(limits.silence)
        self.outbox, self.inbox = folder / "orders", Inbox(folder / "replies")
        self.outbox.mkdir(parents=True, exist_ok=True)
        self._sent: dict[str, _Sent] = {}
        self._done: queue.Queue[tuple[str, str]] = queue.Queue()
        self.inbox.listen("replies", fl_ctx)
        engine = fl_ctx.get_engine()
        engine.register_aux_message_handler(topic=FETCH, message_handle_func=self._fetched)
        engine.register_aux_message_handler(topic=ALIVE, message_handle_func=self._lives)

    def exchange(self, orders: Iterable[Message]) -> Iterator[Delivery]:
        """A delivery for each message, as replies arrive; what is on disk of it goes when the next is asked for."""
        waiting: set[str] = set()
        try:
            for message in orders:
                if message.site in self.lives.lost():
                    yield Delivery(Failure(message.site, message.round, LOST), 0, 0)
                else:
                    waiting.add(self._posted(message))
            while waiting:
                key, problem = self._next()
                if key in waiting:
                    waiting.discard(key)
                    yield self._delivered(key, problem)
                    self._forget(key)
        finally:
            for key in list(self._sent):
                self._forget(key)

    def _posted(self, message: Message) -> str:
        """Write a message down and give its site a task to fetch it."""
        key = uuid4().hex
        path = self.outbox / f"{key}.safetensors"
        size = post(message, path)
        memory.before(size)
        ticket = Shareable()
        ticket["key"] = key
        task = Task(
            TASK, ticket, {"key": key}, self.limits.order, result_received_cb=self._result, task_done_cb=self._ended
        )
        self._sent[key] = _Sent(message, path, size, task)
        self.inbox.expect(key, self.limits.reply)
        self.controller.broadcast(task, self.fl_ctx, [message.site], min_responses=1)
        return key

    def _next(self) -> tuple[str, str]:
        """The next order that is over, and what was wrong with it."""
        while True:
            if self.abort.triggered:
                raise UserError("the run was stopped; submit it again with --resume to go on")
            try:
                return self._done.get(timeout=0.2)
            except queue.Empty:
                for key, sent in self._sent.items():
                    if self.lives.silent(sent.message.site, sent.since):
                        self.controller.cancel_task(sent.task)
                        return key, f"{LOST} for {self.limits.silence:g} seconds"

    def _result(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        code = client_task.result.get_return_code(ReturnCode.OK) if client_task.result else ReturnCode.EMPTY_RESULT
        client_task.task.set_prop("problem", "" if code == ReturnCode.OK else f"answered with {code}")

    def _ended(self, task: Task, fl_ctx: FLContext) -> None:
        said = {
            TaskCompletionStatus.TIMEOUT: f"did not answer within {self.limits.order} seconds",
            TaskCompletionStatus.CLIENT_DEAD: LOST,
        }
        problem = said.get(task.completion_status, task.get_prop("problem"))
        self._done.put((task.get_prop("key"), "did not answer" if problem is None else problem))

    def _lives(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """A site says that it is there."""
        peer = fl_ctx.get_peer_context()
        if peer is not None:
            self.lives.hear(peer.get_identity_name())
        return make_reply(ReturnCode.OK)

    def _fetched(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """A site asks for the file of its order."""
        sent = self._sent.get(str(request.get("key")))
        peer = fl_ctx.get_peer_context()
        if sent is None or peer is None or peer.get_identity_name() != sent.message.site:
            return make_reply(ReturnCode.BAD_REQUEST_DATA)
        self.lives.hear(sent.message.site)
        arguments = (sent.path, str(request["key"]), sent.message.site, "orders", fl_ctx, self.limits.piece)
        threading.Thread(target=send, args=arguments, daemon=True).start()
        return make_reply(ReturnCode.OK)

    def _delivered(self, key: str, problem: str) -> Delivery:
        """What came for an order; a Failure where nothing did."""
        sent = self._sent[key]
        site, index = sent.message.site, sent.message.round
        path = None if problem else self.inbox.arrived(key, self.limits.piece)
        if path is None:
            return Delivery(Failure(site, index, problem or "sent a reply that was not taken"), sent.size, 0)
        return Delivery(read_reply(path, site, index), sent.size, path.stat().st_size)

    def _forget(self, key: str) -> None:
        self._sent.pop(key).path.unlink(missing_ok=True)
        self.inbox.forget(key)


def waited_for(sites: Iterable[str], here: Callable[[], Iterable[str]], seconds: float, abort: Signal) -> list[str]:
    """Those of `sites` that are not `here` after at most `seconds`."""
    end = time.monotonic() + seconds
    while True:
        lacking = [site for site in sites if site not in set(here())]
        if not lacking or time.monotonic() > end or abort.triggered:
            return lacking
        time.sleep(0.2)
