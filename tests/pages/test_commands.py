"""No page shows a command, an option, a setting or a file that is not there; none is left out in silence."""

from __future__ import annotations

import ast
import re
import tomllib

import click
import pytest
from typer.main import get_command

from pages.fences import COMMANDS, MAP, PAGES, ROOT, Command, blocks, commands, inline
from pages.running import NOT_RUN, WORDS, reason
from sammit.cli import app
from sammit.recipe import experiment_from, with_settings
from sammit.toml import read_toml

ALL = [command for page in PAGES for command in commands(page)]
PROGRAM = get_command(app)
OTHERS = ("make", "python3", "cd")
TABLES = {"data", "model", "method", "training", "evaluation"}


def meant(command: Command) -> list[str]:
    """The arguments of a synopsis as one that means something: of choices the first, and every option given."""
    words = [word for word in re.sub(r"[\[\]]|\.\.\.", "", " ".join(command.arguments or [])).split() if word != "|"]
    return ["1" if word == "N" else word.split("|")[0] for word in words]


def found(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words begin with, and the rest of them."""
    command: click.Command = PROGRAM
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"there is no command '{words[0]}'"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES)
def test_the_program_takes_every_command(page: str) -> None:
    for command in commands(page):
        if command.arguments is not None:
            taken(command, command.arguments)


def taken(command: Command, arguments: list[str]) -> None:
    """The program's own parser takes it, and the recipe or study, if it is one of ours, is there."""
    one, rest = found(meant(command) if command.synopsis else arguments)
    try:
        context = one.make_context("sammit", rest)
    except click.exceptions.Exit:  # --version, --help
        return
    except click.UsageError as error:
        raise AssertionError(f"{command}: {error.format_message()}") from error
    for path in ("recipe", "file"):
        named = str(context.params.get(path) or "")
        assert not re.match("recipes/|studies/", named) or (ROOT / named).is_file(), named
    if not command.synopsis:
        settings_are_known(context)


def settings_are_known(context: click.Context) -> None:
    """Each `--set` of a recipe's is one that the recipe has."""
    settings, recipe = context.params.get("settings") or [], ROOT / str(context.params.get("recipe") or "none")
    if "file" not in context.params:
        experiment_from(with_settings(read_toml(recipe) if recipe.is_file() else {}, list(settings)))


@pytest.mark.parametrize("page", PAGES)
def test_what_is_said_in_running_text_is_there(page: str) -> None:
    """Commands and options; what such a text leaves out, it leaves out."""
    for command in inline(page):
        words = [word for word in meant(command) if word not in ("COMMAND", "")]
        if words and words[0] == "KIND":
            continue
        one, rest = found(words)
        known = {name for parameter in one.params for name in (*parameter.opts, *parameter.secondary_opts)}
        for word in rest:
            option = word.split("=")[0].rstrip(",;:")
            assert not option.startswith("--") or option in {*known, "--help"}, f"{command}: {option}"


def test_every_command_is_run_or_named_with_its_reason() -> None:
    """A word in capitals that the runs do not know would be taken for a file."""
    for command in ALL:
        if reason(command):
            continue
        assert command.arguments is not None, f"{command}: run it, or name it in running.NOT_RUN with the reason"
        unknown = {word for word in command.words if re.fullmatch(r"[A-Z][A-Z_]+", word)} - set(WORDS)
        assert not unknown, f"{command}: nothing stands for {unknown}; see running.WORDS"


def test_nothing_is_named_that_no_page_has() -> None:
    for page, start in NOT_RUN:
        texts = [command.text.removeprefix(".venv/bin/") for command in commands(page)]
        texts += [command.text for command in commands(page)]
        assert any(text.startswith(start) for text in texts), (page, start)


def test_blocks_without_a_language_are_commands() -> None:
    """Anything else says what it is: `text` for listings."""
    targets = set(re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in ALL:
        program = command.words[0]
        assert command.arguments is not None or program in OTHERS or "/bin/" in program, f"{command}: is it `text`?"
        assert program != "make" or command.words[1] in targets, str(command)
    assert sum(block.text.startswith(MAP) for page in PAGES for block in blocks(page)) == 1


@pytest.mark.parametrize("page", PAGES)
def test_snippets_are_whole(page: str) -> None:
    """Python compiles; TOML is read, and a recipe's tables have known keys."""
    for block in blocks(page):
        assert block.language in (*COMMANDS, "python", "toml", "text", "json"), f"{page}:{block.line}"
        if block.language == "python":
            ast.parse(block.text)
        if block.language == "toml":
            table = tomllib.loads(block.text)
            if table.keys() <= TABLES:
                experiment_from(with_settings(table, []))
