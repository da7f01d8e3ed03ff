"""A cell's process ends with the study that started it, even where that was killed without a word."""

from __future__ import annotations

import os
import signal
from threading import Thread


def tie() -> None:
    """From now on this process and its group end as soon as nobody holds the other end of its standard input.

    To be called first thing in a process that leads a group of its own and reads no input. A run survives any kill.
    """
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)
