"""The reference says all that the program says of itself, and leaves no key without a meaning."""

from __future__ import annotations

from dataclasses import fields
from types import ModuleType

import click
import pytest
from typer.main import get_command

from pages.fences import ROOT
from sammit import config, plugins
from sammit.cli import app


def test_no_command_argument_or_option_is_missing(reference: ModuleType) -> None:
    page = reference.commands()
    told = list(reference.commands_of(get_command(app)))
    assert len(told) > 30 and {"sammit", "sammit run", "sammit site audit"} <= {path for path, _ in told}
    for path, command in told:
        assert f"# {path}\n" in page
        section = page.partition(f"# {path}\n")[2].partition("\n#")[0]
        for parameter in command.params:
            shown = parameter.opts[0] if isinstance(parameter, click.Option) else parameter.human_readable_name
            assert shown in section, (path, shown)
            assert getattr(parameter, "help", None), f"{path} {shown}: has no help"


def test_every_key_of_a_recipe_has_its_default_and_a_meaning(reference: ModuleType) -> None:
    page = reference.settings()
    for table in fields(config.Experiment):
        if table.name not in ("name", "seed"):
            assert f"## [{table.name}]\n" in page
    for kind in (config.DataConfig, config.ModelConfig, config.MethodConfig, config.TrainingConfig):
        known = reference.settings_of(kind)
        assert [key.name for key in known] == [one.name for one in fields(kind)]
        assert all(key.meaning and key.values and key.default for key in known), known


def test_a_setting_is_read_as_it_is_written(reference: ModuleType) -> None:
    known = {key.name: key for key in reference.settings_of(config.TrainingConfig)}
    assert known["rounds"].default == "<code>10</code>" and known["rounds"].values == "whole number"
    assert known["precision"].values == '<code>"fp32"</code>, <code>"bf16"</code>'
    assert known["warmup"].meaning == "share of all steps with a linearly rising rate"
    assert {key.name: key for key in reference.settings_of(config.DataConfig)}["split"].default == (
        "<code>[0.6, 0.15, 0.25]</code>"
    )


def test_every_page_of_the_reference_is_asked_for(reference: ModuleType) -> None:
    text = "".join(path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md"))
    assert all(f"<!-- reference: {name} -->" in text for name in reference.PAGES)


@pytest.mark.slow
@pytest.mark.parametrize("kind", plugins.KINDS)
def test_every_plugin_and_option_is_told(reference: ModuleType, kind: str) -> None:
    page = reference.plugins_of(kind)
    for name in plugins.names(kind):
        section = page.partition(f"### {name}\n")[2].partition("\n### ")[0]
        assert section, name
        options = getattr(plugins.load(kind, name), "Options", None)
        for key in reference.settings_of(options) if options else []:
            assert f"<code>{key.name}</code>" in section and key.meaning, (name, key)
