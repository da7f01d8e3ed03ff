"""Updates that wait on disk: those that came before their turn, and all of them where a rule needs all at once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from sammit.federation.stored import Stored, stored
from sammit.methods.state import with_prefix
from sammit.runs import write_state
from sammit.vocabulary import Reply, SmallUpdate, Update

AnyReply = TypeVar("AnyReply", bound=Reply)


class Spill:
    """The folder of the updates that wait. It is there while it is needed: what a killed run left goes first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0

    def __enter__(self) -> Spill:
        shutil.rmtree(self.folder, ignore_errors=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def put(self, reply: AnyReply, lasting: bool = False) -> AnyReply:
        """The same reply, its tensors in a file of this folder; a reply without tensors as it is.

        Args:
            reply: any.
            lasting: the file is not dropped before the round's end.
        """
        if not isinstance(reply, Update | SmallUpdate):
            return reply
        held = reply.tensors
        if isinstance(held, Stored) and (held.path.parent, held.lasting) == (self.folder, lasting):
            return reply
        path = self.folder / f"{self._count}.safetensors"
        self._count += 1
        if not isinstance(reply.tensors, Stored):
            write_state(path, with_prefix("tensors", reply.tensors) | with_prefix("extras", reply.extras), {})
        elif reply.tensors.path.parent == self.folder:
            path = reply.tensors.path
        else:  # the engine would remove its file as soon as the next reply is asked for
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.move(reply.tensors.path, path)
        tensors, extras = stored(path, lasting)
        return replace(reply, tensors=tensors, extras=extras)

    def drop(self, reply: Reply) -> None:
        """Remove what `put` wrote of a reply that nobody needs any more, if it did."""
        stored = reply.tensors if isinstance(reply, Update | SmallUpdate) else None
        if isinstance(stored, Stored) and stored.path.parent == self.folder:
            stored.path.unlink(missing_ok=True)
