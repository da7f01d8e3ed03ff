"""The line to Sammit: JSON lines on standard input and on what was standard output, arrays in files.

A request is {"do", "facts", "arrays"}, its answer {"facts", "arrays"} or {"error"}; "arrays" is the path of a
safetensors file in the private folder, or null. While it works, the process says {"busy": what}: silence means trouble.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

Facts = dict[str, Any]
Arrays = dict[str, "np.ndarray[Any, Any]"]
Answer = tuple[Facts, Arrays]
Lines = queue.Queue[str]

_ANSWERS = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # whatever nnU-Net prints goes to the log, not into the line


def say(message: Facts) -> None:
    """One line to Sammit."""
    _ANSWERS.write(json.dumps(message) + "\n")


def listen(folder: Path) -> Lines:
    """Start to take in lines. Ends the process, and the folder with it, as soon as nobody is there to ask."""
    lines: Lines = queue.Queue()

    def take() -> None:
        for line in sys.stdin:
            lines.put(line)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)  # whatever the main thread is at: nobody waits for it any more

    threading.Thread(target=take, daemon=True).start()
    return lines


def requests(lines: Lines) -> Iterator[Facts]:
    """What is asked, one after another, for as long as the process lives."""
    while True:
        yield json.loads(lines.get())


def read(path: str | None) -> Arrays:
    """The arrays of a request."""
    return load_file(path) if path else {}


def write(folder: Path, arrays: Arrays) -> str | None:
    """The arrays of an answer; returns where they are."""
    if not arrays:
        return None
    path = folder / "answer.safetensors"
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    return str(path)
