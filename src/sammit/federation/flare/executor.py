"""A hospital's half of a job: it fetches an order, has it carried out, and sends the reply."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReturnCode, Shareable, make_reply
from nvflare.apis.signal import Signal

from sammit.federation.flare.job import ALIVE, FETCH, PULSE
from sammit.federation.flare.streams import Inbox, send
from sammit.federation.hospital import Hospital
from sammit.federation.premises import load_premises

log = logging.getLogger(__name__)


class SammitExecutor(Executor):
    """One site in one job. Its own settings are in the kit's `site.toml`; the job brings none."""

    def __init__(self) -> None:
        super().__init__()
        self._hospital: Hospital | None = None
        self._inbox: Inbox | None = None
        self._over = threading.Event()

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """At the job's start, open what is the site's own."""
        if event_type == EventType.START_RUN:
            kit = Path(fl_ctx.get_engine().get_workspace().root_dir)
            premises = load_premises(kit)
            self._hospital = Hospital(fl_ctx.get_identity_name(), premises)
            self._inbox = Inbox(Path(premises.home) / "mail")
            self._inbox.listen("orders", fl_ctx)
            self._limits = premises.limits
            threading.Thread(target=self._live, args=(fl_ctx.get_engine(),), daemon=True).start()
        elif event_type == EventType.END_RUN:
            self._over.set()
            if self._hospital:
                self._hospital.close()

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Carry out one order."""
        if self._hospital is None or self._inbox is None:
            return make_reply(ReturnCode.EXECUTION_EXCEPTION)
        key = str(shareable["key"])
        order = self._fetched(key, fl_ctx)
        if order is None:
            return make_reply(ReturnCode.BAD_TASK_DATA)
        reply = order.with_suffix(".reply")
        try:
            self._hospital.answer(order, reply)
            taken = send(reply, key, "server", "replies", fl_ctx, self._limits.piece)
        finally:
            self._inbox.forget(key)
            reply.unlink(missing_ok=True)
        return make_reply(ReturnCode.OK if taken else ReturnCode.EXECUTION_EXCEPTION)

    def _live(self, engine: Any) -> None:
        """Tell the server every few seconds that this process is there, whatever it is at."""
        while not self._over.wait(PULSE):
            try:
                with engine.new_context() as fl_ctx:
                    engine.fire_and_forget_aux_request(ALIVE, Shareable(), fl_ctx, optional=True)
            except Exception:  # the engine raises what it likes where the server is away; the next may come through
                log.debug("no pulse", exc_info=True)

    def _fetched(self, key: str, fl_ctx: FLContext) -> Path | None:
        """The order's file, asked for at the server."""
        assert self._inbox is not None
        self._inbox.expect(key, self._limits.order)
        request = Shareable()
        request["key"] = key
        engine, seconds = fl_ctx.get_engine(), self._limits.piece
        replies = engine.send_aux_request(
            targets=["server"], topic=FETCH, request=request, timeout=seconds, fl_ctx=fl_ctx
        )
        answer = replies.get("server")
        if answer is None or answer.get_return_code(ReturnCode.OK) != ReturnCode.OK:
            return None
        return self._inbox.arrived(key, self._limits.fetch)
