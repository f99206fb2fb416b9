"""The help of every command: whole sentences, and every choice that the code knows.

The choices are typed into the help, because importing the modules that define them would take a
second before any help appears; so they are held against those modules here.
"""

from collections.abc import Iterator
from typing import Any, get_args

import typer

from glasshouse.cli.main import app
from glasshouse.cli.train import OnBadFile
from glasshouse.data.sources import has_own_size
from glasshouse.explanation.methods import ALL_METHODS
from glasshouse.settings import DataSettings
from glasshouse.training.lr_curve import DEFAULT_RULE, RULES
from glasshouse.workflow.train.log_names import LogName

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def texts() -> Iterator[tuple[str, str]]:
    """Every help text with its place, such as "train --seeds"."""
    for name, command in COMMANDS.items():
        yield name, command.help.replace("\n", " ")
        for parameter in command.params:
            if parameter.help:
                yield f"{name} {parameter.opts[0]}", parameter.help


def is_sentence(text: str) -> bool:
    # SOURCE begins with the names of built-in sources.
    begins = not text[0].islower() or text.startswith("cifar10")
    # What the environment adds stands in brackets behind the last sentence.
    return begins and text.split(" [")[0].rstrip().endswith(".")


def test_every_help_text_is_made_of_sentences() -> None:
    assert [(place, text) for place, text in texts() if not is_sentence(text)] == []


def help_of(command: str, name: str) -> str:
    found = {parameter.name: parameter for parameter in COMMANDS[command].params}[name]
    return str(found.help)


def test_the_help_names_every_choice() -> None:
    assert [rule for rule in RULES if rule not in help_of("lr-find", "rule")] == []
    assert [log for log in get_args(LogName) if log not in help_of("train", "log")] == []
    methods = help_of("explain", "method").removeprefix("One of ").replace(";", ",").split(", ")
    assert [method for method in ALL_METHODS if method not in methods] == []
    sources = help_of("train", "source").split(", a folder")[0].split(", ")
    assert len(sources) == 4 and all(has_own_size(source) for source in sources)


def test_defaults_and_choices_are_those_of_the_code() -> None:
    parameters = {parameter.name: parameter for parameter in COMMANDS["lr-find"].params}
    assert parameters["rule"].default == DEFAULT_RULE
    field = DataSettings.model_fields["on_bad_file"]
    assert {choice.value for choice in OnBadFile} == set(get_args(field.annotation))
