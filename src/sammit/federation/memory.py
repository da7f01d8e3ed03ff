"""A site's private tensors on disk: staged with a round, committed when the server is known to have taken it.

    staged      left by the last training order, under (round, fingerprint of the order)
    committed   what training goes on from; becomes the staged state once an order says it was accepted
    kept        the committed state of the best round so far
    final       what the run leaves: the model this site uses

Each file is replaced in one step, so that a kill at any moment leaves a state that the next order can continue from.
"""

from __future__ import annotations

from pathlib import Path

from sammit.errors import UserError
from sammit.files import flush_folder
from sammit.runs import read_facts, read_state, write_state
from sammit.vocabulary import Order, State


class PrivateMemory:
    """One site's four files.

    Attributes:
        folder: never leaves the site.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def settle(self, order: Order) -> None:
        """Commit the staged state if `order` says that its round was accepted; forget it if not.

        Raises:
            UserError: the server took an update whose private half is not here.
        """
        staged = self._path("staged")
        facts = read_facts(staged)
        if facts and facts["round"] == order.accepted and facts["origin"] == order.origin:
            staged.replace(self._path("committed"))
            flush_folder(self.folder)
        elif facts and order.kind == "train":
            staged.unlink()
        held = read_facts(self._path("committed"))
        if order.accepted >= 0 and (held.get("round"), held.get("origin")) != (order.accepted, order.origin):
            raise UserError(
                f"the private state of round {order.accepted} is not in the site's folder; restore the folder, "
                "or start the run anew"
            )

    def stage(self, state: State, round_index: int, origin: str) -> None:
        """Keep a round's private state until the server is known to have taken the round."""
        write_state(self._path("staged"), state, {"round": round_index, "origin": origin})

    def keep(self, round_index: int) -> None:
        """Remember the committed state as the best so far, that of `round_index`; it is older where the site failed."""
        write_state(self._path("kept"), self.committed()[0], {"round": round_index})

    def committed(self) -> tuple[State, int]:
        """The committed state and its round; empty and -1 before the first."""
        return self._read("committed")

    def kept(self) -> tuple[State, int]:
        """The state of the best round and that round; empty and -1 if none was kept."""
        return self._read("kept")

    def finalise(self, state: State, round_index: int, steps: int) -> None:
        """Write the state that the run leaves, and how many steps the last local stage took."""
        write_state(self._path("final"), state, {"round": round_index, "steps": steps})

    def final(self) -> State:
        """The state that the run leaves; empty before `finalise`."""
        return self._read("final")[0]

    def _read(self, name: str) -> tuple[State, int]:
        if not self._path(name).is_file():
            return {}, -1
        state, facts = read_state(self._path(name))
        return state, int(facts["round"])

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"
