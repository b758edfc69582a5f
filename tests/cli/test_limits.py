"""Options for numbers with decimals: what is no number is called that, in every command that has such an option."""

from collections.abc import Callable, Iterator
from typing import Any, get_args, get_type_hints

import pytest
import typer

import evovlm.cli.program
import evovlm_app.program
import evovlm_benchmarks.merge_speed
import evovlm_benchmarks.program
from evovlm.cli import entry


def commands(app: typer.Typer) -> Iterator[Callable[..., Any]]:
    """The functions of an app's commands, and of its groups'."""
    yield from (info.callback for info in app.registered_commands if info.callback is not None)
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance)


def kinds(hint: Any) -> tuple[Any, ...]:
    """The types of an annotation: of `float | None` both."""
    found = get_args(hint)
    return tuple(kind for part in found for kind in kinds(part)) if found else (hint,)


def fractions() -> Iterator[tuple[Callable[..., Any], str]]:
    """Each command that has an option for a number with decimals, with the option."""
    apps = (evovlm.cli.program.app, evovlm_benchmarks.program.app)
    alone = (evovlm_app.program.start, evovlm_benchmarks.merge_speed.main)
    for command in (*(command for app in apps for command in commands(app)), *alone):
        for name, hint in get_type_hints(command).items():
            if float in kinds(hint):
                yield command, name


FOUND = [pytest.param(*found, id=f"{found[0].__name__}-{found[1]}") for found in fractions()]


def test_the_options_are_found():
    names = {f"{command.__name__} {option}" for command, option in fractions()}
    assert {"zoo_train scale", "evolve time_limit", "merge max_shard_gb", "start memory_gb"} <= names


@pytest.mark.parametrize("value", ["nan", "-inf", "1e999", "many"])
@pytest.mark.parametrize(("command", "option"), FOUND)
def test_what_is_no_number_is_called_that(
    command: Callable[..., Any], option: str, value: str, capsys: pytest.CaptureFixture[str]
):
    app = typer.Typer(add_completion=False)
    app.command()(command)
    flag = f"--{option.replace('_', '-')}"
    with pytest.raises(SystemExit) as ended:
        entry.run(app, [f"{flag}={value}"], name="program")
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert flag in told
    assert f"'{value}' is no number; give one from " in told


def test_a_number_out_of_range_is_told_the_range(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        entry.run(evovlm.cli.program.app, ["zoo", "train", "--scale", "11"], name="evovlm")
    told = capsys.readouterr().err
    assert "'--scale': 11 is out of range; give a number from 0.0005 to 10; see `evovlm zoo train --help`" in told
