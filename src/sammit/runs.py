"""The run folder: what a run is, what it did, and what it can go on from."""

from __future__ import annotations

import json
import platform
import re
import resource
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sammit import plugins
from sammit.config import Experiment
from sammit.errors import UserError
from sammit.files import is_draft, write_atomically
from sammit.lock import LOCK
from sammit.recipe import experiment_from
from sammit.toml import read_toml, to_toml
from sammit.vocabulary import AnyState, State

LIBRARIES = ("sammit", "torch", "transformers", "numpy", "safetensors")


class RunFolder:
    """A run's files, by what they hold.

    Attributes:
        path: the folder.
        experiment: the effective experiment, as `config.toml` has it.
    """

    def __init__(self, path: Path, experiment: Experiment) -> None:
        self.path, self.experiment = path, experiment

    @classmethod
    def create(cls, path: Path, experiment: Experiment) -> RunFolder:
        """A new run in an empty or missing folder.

        Raises:
            UserError: the folder holds something already, or cannot be written.
        """
        refuse_used(path)
        write_atomically(path / "config.toml", to_toml(experiment))
        return cls(path, experiment)

    @classmethod
    def read(cls, path: Path) -> RunFolder:
        """An existing run, to be looked at; raises UserError where there is none."""
        if not (path / "config.toml").is_file():
            raise UserError(f"{path}: is no run folder (it has no config.toml); give the --out of a `sammit run`")
        return cls(path, experiment_from(read_toml(path / "config.toml")))

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run, to be used or gone on with.

        Raises:
            UserError: there is none, or its method is not known here.
        """
        folder = cls.read(path)
        method = folder.experiment.method.name
        if method not in plugins.names("methods"):
            raise UserError(
                f"{path}: its method '{method}' is no file of sammit.methods; put {method}.py there, or use the run "
                "from Python with its class: sammit.load(RUN, method=CLASS), sammit.run(..., method=CLASS)"
            )
        return folder

    def site(self, name: str) -> Path:
        """The folder of one simulated site's own state; in a deployed run it lies at the hospital."""
        return self.path / "checkpoint" / "sites" / name

    @property
    def finished(self) -> bool:
        """Whether the run ended and its scores are written."""
        return (self.path / "summary.json").is_file()

    def need_finished(self) -> None:
        """Raise UserError where the run has not ended, nor is the folder that of a site which joined one."""
        if not self.finished and not (self.path / "join.json").is_file():
            raise UserError(
                f"{self.path}: the run is not finished; go on with it: sammit run RECIPE --out {self.path} --resume"
            )

    def write_json(self, name: str, value: Any) -> None:
        """Write `value` to the file `name`, whole or not at all."""
        write_atomically(self.path / name, json.dumps(value, indent=2) + "\n")

    def read_json(self, name: str) -> Any:
        """The value in the file `name`; raises UserError where it is missing or damaged."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path / name}: is missing or damaged ({error}); restore it from the run") from None

    def write_lines(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write one JSON object a line."""
        write_atomically(self.path / name, "".join(json.dumps(row) + "\n" for row in rows))


def default_folder(experiment: Experiment) -> Path:
    """Where a run is written that is not told where."""
    return Path("runs") / f"{experiment.name}-seed-{experiment.seed}"


def refuse_used(path: Path) -> None:
    """Raise UserError where a new run cannot go: something is there, or the path leads through a file."""
    over = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    if not over.is_dir():
        raise UserError(f"{over}: is a file; choose another --out")
    if path.exists() and not _nothing_whole(path):
        raise UserError(f"{path}: is not empty; choose another --out, or add --resume to go on with the run in it")


def died_at_first_write(path: Path) -> bool:
    """Whether a run was started in `path` and killed before it had written anything whole."""
    return path.is_dir() and any(path.iterdir()) and _nothing_whole(path)


def _nothing_whole(path: Path) -> bool:
    """Whether a folder has nothing but drafts and the lock of whoever writes there, or once did."""
    return all(file.name == LOCK or is_draft(file) for file in path.iterdir())


def run_name(text: str) -> str:
    """A run's name as a folder's; raises UserError where it could lead out of the folder of runs."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
        raise UserError(f"run '{text}': a name has letters, digits, '.', '_' and '-', and begins with one of the first")
    return text


def apart(state: AnyState) -> State:
    """The same tensors on the CPU, each contiguous and in memory of its own, as safetensors wants them."""
    seen: set[int] = set()
    result: State = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return result


def write_state(path: Path, state: AnyState, facts: Mapping[str, Any]) -> None:
    """AnyState and facts about them in one safetensors file, atomically.

    Args:
        path: the file.
        state: any named tensors.
        facts: anything JSON can hold; `read_state` gives it back.
    """
    from safetensors.torch import save_file

    tensors = apart(state)
    write_atomically(path, lambda draft: save_file(tensors, draft, {"facts": json.dumps(facts)}))


def read_state(path: Path) -> tuple[State, dict[str, Any]]:
    """What `write_state` wrote.

    Raises:
        UserError: the file is missing, cut short or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: is missing or damaged ({error}); restore it or start the run anew") from None


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of what `write_state` wrote, without its tensors (and without torch); empty where there is no file."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="np") as file:
            facts: dict[str, Any] = json.loads((file.metadata() or {}).get("facts", "{}"))
            return facts
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: is damaged ({error}); restore it or start the run anew") from None


def environment(experiment: Experiment) -> dict[str, Any]:
    """What a reader needs to trust or repeat a run: versions, machine, revision."""
    import torch

    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "machine": {"system": platform.platform(), "processor": platform.processor() or platform.machine()},
        "device": experiment.training.device,
        "threads": experiment.training.threads,
        "precision": experiment.training.precision,
        "deterministic": not torch.backends.cudnn.benchmark,
        "revision": _revision(),
    }


def _revision() -> str | None:
    """The git revision of Sammit's source, where it is a checkout."""
    git = shutil.which("git")
    if not git:
        return None
    here = Path(__file__).parent
    answer = subprocess.run([git, "-C", here, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return answer.stdout.strip() or None


def need_space(path: Path, needed: int) -> None:
    """Raise UserError where the disk of `path` has fewer than `needed` bytes free."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise UserError(
            f"{path}: the run needs about {needed / 1e6:.0f} MB and the disk has {free / 1e6:.0f} MB free; "
            "free some space or choose another --out"
        )


def peak_memory() -> int:
    """Largest resident memory of this process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
