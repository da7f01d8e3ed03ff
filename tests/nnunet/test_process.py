"""The line to another process: what goes over it, and every way in which it can break."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nnunet.conftest import FAKE
from sammit.errors import UserError
from sammit.nnunet import process
from sammit.nnunet.process import NnunetError, Process, find_python


@pytest.fixture
def running() -> Iterator[Process]:
    one = Process(FAKE, silence=120)
    yield one
    one.close()


def folder_of(one: Process) -> Path:
    return Path(one.ask("variables", {"names": []})[0]["folder"])


def gone(pid: int) -> bool:
    """Whether a process has ended; waits a little for it."""
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_facts_and_arrays_come_back_as_they_went(running: Process) -> None:
    arrays = {
        "a.b": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1],
        "labels": np.array([[-1, 5]], np.int16),
        "mask": np.array([True, False]),
        "none": np.zeros((3, 0)),
        "volume": np.array([65535], np.uint16),
    }
    facts = {"text": 'äöü \n "x"', "numbers": [1, 2.5, None], "deep": {"on": True}}
    told, found = running.ask("echo", facts, arrays)
    assert told == facts
    assert found.keys() == arrays.keys()
    assert all(
        np.array_equal(found[name], array) and found[name].dtype == array.dtype for name, array in arrays.items()
    )
    assert running.ask("echo", {}) == ({}, {})


def test_no_array_stays_on_the_disk(running: Process) -> None:
    """A patient's image lies there no longer than it is needed."""
    folder = folder_of(running)
    running.ask("echo", {}, {"image": np.zeros(9)})
    with pytest.raises(NnunetError):
        running.ask("fail", {}, {"image": np.zeros(9)})
    assert not list(folder.glob("*.safetensors"))
    assert folder.stat().st_mode & 0o077 == 0


def test_an_error_is_told_in_one_line_and_the_process_goes_on(running: Process) -> None:
    with pytest.raises(NnunetError, match="asked to fail: ValueError: no such"):
        running.ask("fail", {})
    assert running.ask("echo", {"still": 1})[0] == {"still": 1}


def test_a_death_is_told_with_the_end_of_the_log(running: Process) -> None:
    folder = folder_of(running)
    with pytest.raises(NnunetError, match=r"asked to die, ended with code 7;.* ends with: the last words"):
        running.ask("die", {})
    assert not running.alive and not folder.exists()
    with pytest.raises(NnunetError, match="is not running"):
        running.ask("echo", {})


def test_silence_is_an_error_and_signs_of_life_are_not(running: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    running.ask("echo", {})  # to be asked anything it has to have started, which may take its time
    monkeypatch.setattr(running, "_silence", 2.5)
    assert running.ask("chatter", {"times": 4, "pause": 0.8})[0] == {"done": True}
    with pytest.raises(NnunetError, match="asked to hang, said nothing for 2 seconds"):
        running.ask("hang", {})
    assert not running.alive


def test_what_is_no_json_is_an_error(running: Process) -> None:
    with pytest.raises(NnunetError, match="answered what is no JSON"):
        running.ask("garble", {})
    assert not running.alive


def test_an_interrupted_question_leaves_no_stray_answer(running: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while it works: the process is ended, as its answer would be taken for the next question's."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(process.select, "select", interrupt)
    with pytest.raises(KeyboardInterrupt):
        running.ask("echo", {})
    assert not running.alive


def test_its_environment_is_its_own(running: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """nnU-Net's folders are private, whatever the user's shell has for other work."""
    monkeypatch.setenv("nnUNet_raw", "/elsewhere")
    monkeypatch.setenv("nnUNet_extTrainer", "/elsewhere")
    names = ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_extTrainer", "OMP_NUM_THREADS"]
    one = Process(FAKE, threads=3)
    try:
        told = one.ask("variables", {"names": names})[0]
        folders = [Path(told["variables"][name]).parent for name in names[:3]]
        assert folders == [Path(told["folder"])] * 3
        assert told["variables"]["nnUNet_extTrainer"] is None and told["variables"]["OMP_NUM_THREADS"] == "3"
    finally:
        one.close()


PARENT = """
import sys, time
from sammit.nnunet.process import Process
one = Process(sys.argv[2:])
print(one._child.pid, one.ask("variables", {"names": []})[0]["folder"], flush=True)
one.ask(sys.argv[1], {"times": 1000, "pause": 0.2})
"""


@pytest.mark.parametrize("doing", ["hang", "chatter"])
def test_it_ends_when_its_parent_is_killed(doing: str) -> None:
    """Even while it works; the private folder, which holds images, goes with it."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, doing, *FAKE], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    pid, folder = parent.stdout.readline().split()
    time.sleep(0.3)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert gone(int(pid))
    assert not Path(folder).exists()


def test_the_shared_process_is_started_anew_when_it_is_gone(fake: None) -> None:
    first = process.shared()
    assert process.shared() is first
    with pytest.raises(NnunetError):
        first.ask("die", {})
    second = process.shared()
    assert second is not first and second.ask("echo", {"a": 1})[0] == {"a": 1}


def test_the_shared_process_has_as_many_threads_as_this_one(fake: None) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        first = process.shared()
        torch.set_num_threads(2)
        second = process.shared()
        assert (first.threads, second.threads) == (1, 2) and not first.alive
    finally:
        torch.set_num_threads(before)


def test_a_forked_copy_has_no_part_in_it(running: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of this process must neither use the line nor end the process at its own end."""
    with monkeypatch.context() as patch:
        patch.setattr(process.os, "getpid", lambda: running.owner + 1)
        assert not running.alive
        running.close()
    assert running.ask("echo", {"a": 1})[0] == {"a": 1}


def python_in(folder: Path) -> Path:
    path = folder / ".venv-nnunet" / "bin" / "python"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_where_python_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable, then beside Sammit's own environment, then here."""
    monkeypatch.delenv(process.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "project" / ".venv"))
    (tmp_path / "project").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match=r"environment is missing .*make \.venv-nnunet/ready.*SAMMIT_NNUNET_PYTHON"):
        find_python()
    here = python_in(tmp_path / "here")
    assert find_python() == here
    beside = python_in(tmp_path / "project")
    assert find_python() == beside
    monkeypatch.setenv(process.VARIABLE, sys.executable)
    assert find_python() == Path(sys.executable)
    monkeypatch.setenv(process.VARIABLE, str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"SAMMIT_NNUNET_PYTHON: .*none is no file"):
        find_python()


def test_a_python_without_nnunet_says_how_to_mend_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any bare one."""
    monkeypatch.setenv(process.VARIABLE, sys.executable)
    python, *rest = process.command()
    one = Process([python, "-S", *rest])
    with pytest.raises(NnunetError, match=r"make \.venv-nnunet/ready.*No module named"):
        one.ask("build", {})
