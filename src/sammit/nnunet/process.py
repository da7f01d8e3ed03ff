"""The process in which nnU-Net runs: found, started, asked, ended.

Requests and answers are JSON lines over pipes; arrays are safetensors files in a private temporary folder, which is
gone with the process. The process ends when this one does, however that happens.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from time import monotonic
from typing import TYPE_CHECKING, Any

from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray[Any, Any]]

Facts = dict[str, Any]

VARIABLE = "SAMMIT_NNUNET_PYTHON"
MEND = f"run `make .venv-nnunet/ready` in Sammit's folder, or set {VARIABLE} to a Python that has nnunetv2"
SILENCE = 1800.0  # seconds without a word after which the process counts as stuck; it speaks after every step
_START = "import runpy, sys; sys.path.append(sys.argv.pop(1)); runpy.run_module('worker', run_name='__main__')"


class NnunetError(UserError):
    """nnU-Net's process could not do what it was asked."""


class Process:
    """nnU-Net's process.

    Attributes:
        loaded: a mark of whose weights its predictor holds; None at first. Kept here because it dies with the process.
    """

    def __init__(self, start: Sequence[str], threads: int = 1, silence: float = SILENCE) -> None:
        """
        Args:
            start: the command; the private folder is added as the last argument.
            threads: for its arithmetic, as in this process.
            silence: seconds without a word after which it counts as stuck.
        """
        self.loaded: object = None
        self.threads, self.owner, self._silence = threads, os.getpid(), silence
        self._folder = Path(mkdtemp(prefix="sammit-nnunet-"))
        self._log = self._folder / "log.txt"
        self._buffer = b""
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                [*start, str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(self._folder, threads),
                start_new_session=True,  # Ctrl-C is for Sammit; the pipe's end is for the process
            )

    @property
    def alive(self) -> bool:
        """Whether it can be asked; a forked copy of this process has no part in it."""
        return self.owner == os.getpid() and self._child.poll() is None

    def ask(self, do: str, facts: Facts, arrays: Arrays | None = None) -> tuple[Facts, dict[str, np.ndarray[Any, Any]]]:
        """One request and its answer.

        Raises:
            NnunetError: it answered with an error, died, or fell silent; in the last two cases it is gone.
        """
        from safetensors.numpy import load_file

        try:
            self._send({"do": do, "facts": facts, "arrays": self._written(arrays or {})})
            answer = self._answer(do)
        except BaseException:  # Ctrl-C too: an answer that comes later would be taken for the next one's
            self.close()
            raise
        found = load_file(answer["arrays"]) if answer.get("arrays") else {}
        for path in self._folder.glob("*.safetensors"):  # an image lies on the disk no longer than it is needed
            path.unlink()
        if "error" in answer:
            raise NnunetError(f"nnU-Net, asked to {do}: {answer['error']}")
        return answer["facts"], found

    def close(self) -> None:
        """End it, and remove its folder."""
        if self.owner != os.getpid():
            return
        if self._child.stdin:
            with suppress(BrokenPipeError):
                self._child.stdin.close()  # at this the process ends by itself, whatever it is at
        try:
            self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if self._child.stdout:
            self._child.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _written(self, arrays: Arrays) -> str | None:
        """The file that the arrays of a request go into."""
        import numpy as np
        from safetensors.numpy import save_file

        if not arrays:
            return None
        path = self._folder / "request.safetensors"
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
        return str(path)

    def _send(self, request: Facts) -> None:
        assert self._child.stdin
        try:
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            self._child.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise self._trouble("is not running") from None

    def _answer(self, do: str) -> Facts:
        """The next line that is not a sign of life."""
        while True:
            line = self._line(do)
            try:
                answer = json.loads(line)
            except ValueError:
                raise self._trouble(f"asked to {do}, answered what is no JSON") from None
            if "busy" not in answer:
                return dict(answer)

    def _line(self, do: str) -> bytes:
        """The next line, whole."""
        assert self._child.stdout
        deadline = monotonic() + self._silence
        while b"\n" not in self._buffer:
            ready = select.select([self._child.stdout], [], [], max(0.0, deadline - monotonic()))[0]
            if not ready:
                self._child.kill()
                raise self._trouble(f"asked to {do}, said nothing for {self._silence:.0f} seconds")
            piece = os.read(self._child.stdout.fileno(), 1 << 16)
            if not piece:
                self._child.wait()
                raise self._trouble(f"asked to {do}, ended with code {self._child.returncode}")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _trouble(self, what: str) -> NnunetError:
        """The error that says what happened and how the log ends."""
        log = self._log.read_text(errors="replace").splitlines() if self._log.is_file() else []
        tail = " | ".join(line.strip() for line in log[-4:] if line.strip()) or "nothing"
        mend = MEND if "No module named" in tail else "free memory or disk if that is what it lacked, then run again"
        return NnunetError(f"nnU-Net's process {what}; {mend}; its log ends with: {tail}")


def find_python() -> Path:
    """The Python of nnU-Net's environment: SAMMIT_NNUNET_PYTHON, or .venv-nnunet beside Sammit's own or here.

    Raises:
        UserError: there is none.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            raise UserError(f"{VARIABLE}: {named} is no file; {MEND}")
        return Path(named)
    places = (Path(sys.prefix).parent, Path.cwd())
    found = [place / ".venv-nnunet" / "bin" / "python" for place in places]
    for python in found:
        if python.is_file():
            return python
    raise UserError(f"nnU-Net's environment is missing ({found[0]}): {MEND}")


def command() -> list[str]:
    """What starts nnU-Net's process; raises UserError where its environment is missing."""
    return [str(find_python()), "-I", "-c", _START, str(Path(__file__).parent)]


_running: list[Process] = []


def shared() -> Process:
    """The one nnU-Net process of this process, started when it is first needed.

    Raises:
        UserError: nnU-Net's environment is missing.
    """
    import torch

    threads = torch.get_num_threads()
    if _running and (not _running[0].alive or _running[0].threads != threads):
        close()
    if not _running:
        _running.append(Process(command(), threads))
    return _running[0]


@atexit.register
def close() -> None:
    """End the shared process, if there is one."""
    while _running:
        _running.pop().close()


def _environment(folder: Path, threads: int) -> dict[str, str]:
    """This process's environment variables, with nnU-Net's own set, whatever the user's shell has for them."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().startswith("nnunet")}
    folders = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    return {
        **kept,
        **folders,
        "nnUNet_compile": "f",  # compiling takes longer than many a round, and changes parameters' names
        "nnUNet_def_n_proc": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "MPLBACKEND": "agg",
    }
