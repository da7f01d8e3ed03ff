"""What a test changes in a site's processes: they find this file first, being started with its folder on their path.

SAMMIT_TAP      a folder: every frame that leaves for another machine is written there before it is encrypted
SAMMIT_STALL    a file: in round 1, once, the site writes it and stops for a minute in mid-training
SAMMIT_PACE     seconds that it takes longer for a round
SAMMIT_POISON   the site sends `poison.KINDS`, one after another, a round each
"""

from __future__ import annotations

import os
import sys

JOB = "worker_process" in " ".join(sys.orig_argv)


def _tap(folder: str) -> None:
    from nvflare.fuel.f3.drivers import grpc_driver

    send = grpc_driver.StreamConnection.send_frame

    def tapped(self: object, frame: bytes) -> None:
        with open(f"{folder}/{os.getpid()}.frames", "ab") as file:  # noqa: PTH123
            file.write(bytes(frame))
        send(self, frame)

    grpc_driver.StreamConnection.send_frame = tapped


def _stall(file: str) -> None:
    import time
    from pathlib import Path

    from sammit.federation.worker import Worker

    train = Worker._train

    def stalled(self: Worker, order: object) -> object:
        if order.round == 1 and not Path(file).exists():  # type: ignore[attr-defined]
            Path(file).touch()
            time.sleep(60)
        return train(self, order)  # type: ignore[arg-type]

    Worker._train = stalled  # type: ignore[method-assign,assignment]


def _pace(seconds: float) -> None:
    import time

    from sammit.federation.worker import Worker

    train = Worker._train

    def paced(self: Worker, order: object) -> object:
        time.sleep(seconds)
        return train(self, order)  # type: ignore[arg-type]

    Worker._train = paced  # type: ignore[method-assign,assignment]


def _poison() -> None:
    from federation.poison import poisoned
    from sammit.federation.hospital import Hospital

    Hospital.answer = poisoned(Hospital.answer)  # type: ignore[method-assign]


if os.environ.get("SAMMIT_TAP"):
    _tap(os.environ["SAMMIT_TAP"])
if JOB and os.environ.get("SAMMIT_STALL"):
    _stall(os.environ["SAMMIT_STALL"])
if JOB and os.environ.get("SAMMIT_PACE"):
    _pace(float(os.environ["SAMMIT_PACE"]))
if JOB and os.environ.get("SAMMIT_POISON"):
    _poison()
