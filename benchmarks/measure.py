"""Running a piece of work in a process of its own, and saying on what machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from typing import Any


def machine() -> str:
    """Processor, cores and torch, in one line."""
    import torch

    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            name = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} cores, torch {torch.__version__}"


def memory() -> dict[str, int]:
    """Bytes of this process: resident, of these anonymous and mapped from files, and the peak since `reset_peak`."""
    keys = {"VmRSS": "resident", "RssAnon": "anonymous", "RssFile": "files", "VmHWM": "peak"}
    with open("/proc/self/status", encoding="utf-8") as file:  # noqa: PTH123
        lines = [line.split() for line in file]
    return {keys[name[:-1]]: int(rest[0]) * 1024 for name, *rest in lines if name[:-1] in keys}


def reset_peak() -> None:
    """Let the peak of `memory` start anew."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:  # noqa: PTH123
        file.write("5")


def apart(module: str, *arguments: str) -> dict[str, Any]:
    """The JSON that `python -m MODULE ARGUMENTS` prints last: a fresh process, so that its peak memory is its own."""
    command = [sys.executable, "-m", module, *arguments]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{answer.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(answer.stdout.strip().splitlines()[-1])
    return result


def show(rows: dict[str, Any], as_json: bool) -> None:
    """Print the figures as lines, or as one JSON object."""
    if as_json:
        print(json.dumps(rows))
        return
    for name, value in rows.items():
        print(f"{name}: {value}")
