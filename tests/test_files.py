"""A file is there whole or not at all, and nothing else stays behind."""

from __future__ import annotations

import errno
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from sammit.errors import UserError
from sammit.files import sha256_of_file, write_atomically


def failing(error: Exception) -> Callable[[Path], object]:
    """A writer that fails half-way."""

    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    return write


def test_bytes_text_and_a_writer(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new" / "folder" / "a.bin", b"\x00\xff")
    write_atomically(tmp_path / "b.txt", "Süd\n")
    write_atomically(tmp_path / "c.txt", lambda path: path.write_text("c"))
    assert (tmp_path / "new" / "folder" / "a.bin").read_bytes() == b"\x00\xff"
    assert (tmp_path / "b.txt").read_bytes() == "Süd\n".encode()
    assert (tmp_path / "c.txt").read_text() == "c"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.txt", "c.txt", "new"]


def test_a_writer_gets_the_targets_suffix_and_folder(tmp_path: Path) -> None:
    """Libraries choose a format by the suffix; a rename is whole only within one folder."""
    seen: list[Path] = []

    def write(path: Path) -> None:
        seen.append(path)
        path.write_bytes(b"")

    write_atomically(tmp_path / "volume.nii.gz", write)
    assert seen[0].parent == tmp_path
    assert seen[0].suffix == ".gz"


def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    for text in ("first, and longer", "second"):
        write_atomically(tmp_path / "a.txt", text)
    assert (tmp_path / "a.txt").read_text() == "second"


@pytest.mark.parametrize("error", [ValueError("broken"), OSError(errno.EIO, "input/output error")])
def test_a_failure_leaves_the_old_file_and_no_draft(tmp_path: Path, error: Exception) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(type(error)) as caught:
        write_atomically(tmp_path / "a.txt", failing(error))
    assert caught.value is error
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_failure_leaves_nothing_where_there_was_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"):
        write_atomically(tmp_path / "a.txt", failing(ValueError("broken")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_said_with_the_mend(tmp_path: Path, error: Exception) -> None:
    """The last is how safetensors words it."""
    with pytest.raises(UserError, match=r"the disk is full while writing .*a\.txt: free some space"):
        write_atomically(tmp_path / "a.txt", failing(error))
    assert list(tmp_path.iterdir()) == []


def test_a_really_full_disk(tmp_path: Path) -> None:
    """/dev/full is Linux's own full disk: every write to it fails with ENOSPC."""

    def write(path: Path) -> None:
        Path("/dev/full").write_bytes(b"x")

    with pytest.raises(UserError, match="the disk is full"):
        write_atomically(tmp_path / "never.txt", write)


def test_no_permission_is_said_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no permission to write .*: choose another folder"):
        write_atomically(tmp_path / "a.txt", failing(PermissionError(errno.EACCES, "denied")))


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, (1 << 20) + 1])
def test_a_files_hash(tmp_path: Path, size: int) -> None:
    """Also over the edge of the pieces it is read in."""
    data = bytes(index % 251 for index in range(size))
    (tmp_path / "a").write_bytes(data)
    assert sha256_of_file(tmp_path / "a") == sha256(data).hexdigest()
