"""The server's Progress on disk, written whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sammit.federation.rounds import Progress
from sammit.federation.stored import stored_parts
from sammit.methods.base import Server
from sammit.methods.state import with_prefix, without_prefix
from sammit.runs import read_state, write_state


def save_progress(folder: Path, progress: Progress) -> None:
    """Write `server.safetensors` in `folder`; one file, so that it cannot disagree with itself."""
    state = with_prefix("shared", progress.server.shared) | with_prefix("memory", progress.server.memory)
    if not _best_is_last(progress):
        state |= with_prefix("best", progress.best_shared)
    facts = {
        "round": progress.round,
        "judged": progress.judged,
        "accepted": progress.accepted,
        "origins": progress.origins,
        "best": progress.best,
        "log": progress.log,
        "line": progress.line,
    }
    write_state(folder / "server.safetensors", state, facts)


def leave_on_disk(folder: Path, progress: Progress) -> None:
    """Let the shared tensors lie where `save_progress` wrote them, each read when it is asked for.

    What an older checkpoint gave must not be used any more, for its file is another's now.
    """
    shared, _, best = stored_parts(folder / "server.safetensors", ("shared", "memory", "best"))
    progress.server = replace(progress.server, shared=shared)
    progress.best_shared = shared if _best_is_last(progress) else best


def load_progress(folder: Path) -> Progress | None:
    """The last Progress written, or None before the first."""
    path = folder / "server.safetensors"
    if not path.is_file():
        return None
    state, facts = read_state(path)
    server = Server(without_prefix("shared", state), without_prefix("memory", state))
    best_round, best_dice = facts.pop("best")
    progress = Progress(server, **facts, best=(best_round, best_dice))
    progress.best_shared = server.shared if _best_is_last(progress) else without_prefix("best", state)
    return progress


def _best_is_last(progress: Progress) -> bool:
    """Whether the best round's tensors are the current ones, which need no second copy."""
    return 0 <= progress.best[0] == progress.round - 1
