"""Options come from the recipe's fields: one declaration, and what was typed wins over a file."""

from pathlib import Path
from typing import Any

import pytest
import typer.main

from pilotfish.cli.app import COMMANDS, app
from pilotfish.cli.options import FieldOption, RecipeCommand, recipe_options
from pilotfish.config import LabelConfig, Recipe, WeakToStrong, recipe_schema
from pilotfish.errors import UsageError

RUN = "RECIPE.yaml|DATA"


def typed(*words: str, whole: bool = False, **more: Any) -> Recipe:
    """The recipe that a command with some options gets of these words."""
    fields = (
        "weak",
        "strong",
        "limit",
        "max_bad_rate",
        "map",
        "evidence",
        "budget",
        "seeds",
        "arms",
    )
    found: list[Recipe] = []

    def command(recipe: Recipe) -> None:
        found.append(recipe)

    options = [FieldOption(name, **more.get(name, {})) for name in fields]
    made = recipe_options("data", *options, "allow_short", whole=whole)(command)
    one = typer.Typer(add_completion=False)
    one.command()(made.callback())
    typer.main.get_command(one).main([*words], standalone_mode=False)
    return found[0]


def test_a_command_gets_what_was_typed_as_a_checked_recipe() -> None:
    words = ("d.jsonl", "--weak", "w", "--limit", "3", "--map", "prompt=q", "--allow-short")
    recipe = typed(*words, "--arms", "base, selected")
    assert (recipe.data, recipe.weak, recipe.strong) == ("d.jsonl", "w", "")
    assert (recipe.limit, recipe.map, recipe.allow_short) == (3, {"prompt": "q"}, True)
    assert recipe.arms == ["base", "selected"]
    with pytest.raises(UsageError, match="evidence"):
        typed("d.jsonl", "--evidence", "some")


def test_several_budgets_are_for_commands_that_run_a_whole_recipe() -> None:
    words = ("d.jsonl", "--weak", "w", "--strong", "s", "--budget", "5%,10%")
    recipe = typed(*words, whole=True)
    assert (recipe.budget, recipe.budgets) == ("5%", ["5%", "10%"])
    assert (typed(*words).budget, typed(*words).budgets) == ("5%,10%", None)


def test_an_option_of_a_command_may_have_another_default() -> None:
    assert typed("d.jsonl", seeds={"default": 1}).seeds == 1
    assert typed("d.jsonl", "--seeds", "4", seeds={"default": 1}).seeds == 4


def test_only_what_was_typed_wins_over_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("data: d\nweak: w\nstrong: s\nbudget: 3rows\nmax_bad_rate: 0.5\nseeds: 7\n")
    recipe = typed(str(path), "--weak", "other", "--set", "seeds=2", whole=True)
    assert (recipe.data, recipe.weak, recipe.strong) == ("d", "other", "s")
    assert (recipe.budget, recipe.max_bad_rate, recipe.seeds) == ("3rows", 0.5, 2)
    path.write_text("weak: w\nstrong: s\n")
    with pytest.raises(UsageError, match="lacks 'data'"):
        typed(str(path), whole=True)
    path.write_text("data: d\nweak: w\n")
    with pytest.raises(UsageError, match="needs --strong MODEL"):
        typed(str(path), whole=True)


def test_help_and_bounds_are_those_of_the_field() -> None:
    params = {param.name: param for param in typer.main.get_command(app).commands["run"].params}  # type: ignore[attr-defined]
    for name in ("limit", "trusted", "evidence", "precision"):
        told = " ".join((Recipe.model_fields[name].description or "?").split())
        assert params[name].help == told
    with pytest.raises(Exception, match="1000"):
        typed("d.jsonl", "--seeds", "1001")
    with pytest.raises(Exception, match="1"):
        typed("d.jsonl", "--limit", "0")
    assert params["direction"].metavar == "high|low|middle"


@pytest.mark.parametrize(
    "name", [name for name, command in COMMANDS.items() if isinstance(command, RecipeCommand)]
)
def test_every_offered_field_is_one_of_the_recipe(name: str) -> None:
    command = COMMANDS[name]
    assert isinstance(command, RecipeCommand)
    assert {option.name for option in command.fields} <= {*Recipe.model_fields}


def test_the_schema_describes_every_setting_in_whole_sentences() -> None:
    found = recipe_schema()["$defs"]
    for kind in (Recipe, WeakToStrong):
        for name, setting in found[kind.__name__]["properties"].items():
            if name != "experiment":
                assert setting.get("description", "").endswith((".", ":")), f"{kind} {name}"


def test_every_setting_of_label_is_an_option_with_the_fields_help() -> None:
    params = {param.name: param for param in typer.main.get_command(app).commands["label"].params}  # type: ignore[attr-defined]
    for name, field in LabelConfig.model_fields.items():
        assert params[name].help == " ".join((field.description or "?").split())
    assert params["tune"].opts + params["tune"].secondary_opts == ["--tune", "--no-tune"]
