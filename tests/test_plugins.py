"""Plugins are found by reading files, and an unknown name is answered with known ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from sammit import plugins
from sammit.errors import UserError


def test_adapters_are_their_files() -> None:
    assert plugins.names("adapters") == ["bottleneck", "condition", "decoder_lora", "lora", "mixture"]
    assert plugins.load("adapters", "lora").Adapter.__module__ == "sammit.models.adapters.lora"


@pytest.mark.parametrize("kind", sorted(plugins.KINDS))
def test_each_plugin_loads_and_has_a_summary(kind: str) -> None:
    """The first line of a file's docstring is what a listing shows."""
    rows = plugins.describe(kind)
    assert [row["name"] for row in rows] == plugins.names(kind)
    for row in rows:
        assert len(row["summary"]) > 10, row["name"]
        assert hasattr(plugins.load(kind, row["name"]), plugins.KINDS[kind][1])


def test_an_unknown_name() -> None:
    with pytest.raises(UserError, match="unknown adapter 'lorra': did you mean 'lora'"):
        plugins.load("adapters", "lorra")
    with pytest.raises(UserError, match="known: bottleneck, condition, decoder_lora, lora, mixture"):
        plugins.load("adapters", "zzz")


def test_a_file_counts_by_what_it_defines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class or function of the entry's name; `base` and helpers do not count; capitals become columns."""
    package = tmp_path / "shelf"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "base.py").write_text("class Thing: ...")
    (package / "helper.py").write_text("def other(): ...")
    (package / "good.py").write_text(
        '"""A good thing.\n\nMore."""\nPAPER = "0000.00000"\ntotal = "x"\nclass Thing: ...'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(plugins.KINDS, "things", ("shelf", "Thing"))
    assert plugins.describe("things") == [{"name": "good", "summary": "A good thing", "paper": "0000.00000"}]
    assert plugins.load("things", "good").PAPER == "0000.00000"
    plugins._sources.cache_clear()


class OwnAverage:
    """Not a file."""

    @dataclass(frozen=True)
    class Options:
        rate: float = 0.5


class Heir(OwnAverage):
    """With the options of the class above it."""


def test_a_class_is_known_while_it_is_lent() -> None:
    """Under the name that its file would have, in this thread alone, beside the files, and not in a listing."""
    before = plugins.names("methods")
    with plugins.lent("methods", [OwnAverage]), plugins.lent("methods", [Heir]):
        assert plugins.names("methods") == sorted([*before, "heir", "own_average"])
        assert plugins.load("methods", "own_average").Method is OwnAverage
        assert plugins.load("methods", "heir").Options is OwnAverage.Options
        assert plugins.is_lent("methods", "heir") and not plugins.is_lent("methods", "fedavg")
        assert "heir" not in [row["name"] for row in plugins.describe("methods")]
        with ThreadPoolExecutor() as other:
            assert other.submit(plugins.names, "methods").result() == before
    assert plugins.names("methods") == before


def test_a_class_that_cannot_be_lent() -> None:
    """A file's name, and no options."""
    from sammit.methods import fedavg

    lora = type("Lora", (OwnAverage,), {})
    for one, kind, says in (
        (lora, "adapters", "class Lora: lora is a file of sammit.models.adapters already"),
        (type("Bare", (), {}), "methods", "class Bare: has no dataclass Options in it"),
    ):
        with pytest.raises(UserError, match=says), plugins.lent(kind, [one]):
            pass
    heir = type("OwnFedSAM", (fedavg.Method,), {})
    with plugins.lent("methods", [heir]):
        assert plugins.load("methods", "own_fed_sam").Options is fedavg.Options
