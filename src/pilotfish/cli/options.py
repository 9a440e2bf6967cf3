"""The options of the commands: built from the fields of the recipe, and the few others.

A field of the recipe declares its option too: its docstring is the help, its type, bounds and
default are the option's. A command names the fields it offers and receives a `Recipe` made of what
was typed:

    @recipe_options("weak", "limit", FieldOption("seeds", help="Number of models per arm."))
    def command(run: RunFolder, *, recipe: "Recipe", as_json: Json = False) -> None: ...
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

from pilotfish import remote_code
from pilotfish.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from pilotfish.config import Recipe

RECIPES = (".yaml", ".yml")
# Fields of the recipe that say how DATA is read, wherever data is read.
READING = ("limit", "max_bad_rate", "map", "dataset_config", "split", "revision")

RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")]
Out = Annotated[
    str | None, typer.Option("--out", metavar="RUN", help="The run folder to write to.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="a.b=value",
        help="Set any recipe setting, as train.learning_rate=2e-4; may be repeated.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing results.")]


@dataclass(frozen=True)
class FieldOption:
    """The option of a recipe field; what is None here comes from the field.

    Args:
        name: The field; `data` becomes the command's argument.
        help, metavar: What `--help` shows.
        default: The value where nothing is typed.
        required: Whether the command needs the option.
    """

    name: str
    help: str | None = None
    metavar: str | None = None
    default: Any = None
    required: bool = False

    def parameter(self, field: "FieldInfo") -> inspect.Parameter:
        """Return the parameter that typer makes the option of."""
        kind, metavar = _kind_and_metavar(field)
        default = field.get_default() if self.default is None else self.default
        shown: dict[str, Any] = {
            "metavar": self.metavar or metavar,
            "help": self.help or " ".join((field.description or "").split()),
            **_bounds(field, kind),
        }
        if self.name == "data":
            declared: Any = typer.Argument(**shown)
            default = inspect.Parameter.empty
        else:
            flag = f"--{self.name.replace('_', '-')}"
            if kind is bool and default is not False:
                flag += f"/--no-{flag[2:]}"
            declared = typer.Option(flag, **shown)
            if self.required:
                default = inspect.Parameter.empty
            elif not isinstance(default, str | int | float):
                kind, default = kind | None, None
        return _keyword(self.name, Annotated[kind, declared], default)


@dataclass(frozen=True)
class RecipeCommand:
    """A command's function and the recipe fields it offers; see `recipe_options`."""

    function: Callable[..., None]
    fields: tuple[FieldOption, ...]
    whole: bool
    settings: str | None

    def callback(self) -> Callable[..., None]:
        """Return the function that typer calls; its signature lists every option."""
        from pilotfish import config
        from pilotfish.config.settings import validate

        known = config.Recipe.model_fields
        options = {"recipe": [option.parameter(known[option.name]) for option in self.fields]}
        if self.whole:
            options["recipe"].append(_keyword("set_", Set, None))
        model: type[BaseModel] = getattr(config, self.settings or "Recipe")
        more = [FieldOption(name) for name in model.model_fields] if self.settings else []
        options["settings"] = [each.parameter(model.model_fields[each.name]) for each in more]
        own = inspect.signature(self.function).parameters

        def command(**values: Any) -> None:
            recipe = self._recipe(values)
            remote_code.allow(recipe.trust_remote_code)
            made: dict[str, Any] = {"recipe": recipe}
            if self.settings:
                made["settings"] = validate(model, _typed(more, model, values), parts={})
            self.function(**{name: made.get(name, values.get(name)) for name in own})

        listed = [_keyword("context", typer.Context)]
        for name, parameter in own.items():
            listed += options.get(name, [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)])
        command.__doc__ = self.function.__doc__
        command.__annotations__ = {}
        command.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
        return command

    def _recipe(self, values: Mapping[str, Any]) -> "Recipe":
        """Return what was typed as a recipe, on top of RECIPE.yaml where one was named."""
        from pilotfish.config import Recipe, make_recipe, read_recipe

        settings: dict[str, Any] = {"weak": "", "strong": ""}
        typed = _typed(self.fields, Recipe, values)
        if not self.whole:
            return make_recipe({"data": "", **settings, **typed})
        if values["data"].endswith(RECIPES):
            settings |= read_recipe(values["data"])
            del typed["data"]
        if len(budgets := parse_names(typed.get("budget"))) > 1:
            typed |= {"budget": budgets[0], "budgets": budgets}  # the verdict is about the first
        recipe = make_recipe(settings | typed, values["set_"])
        for name in ("weak", "strong"):
            if not getattr(recipe, name):
                command = self.function.__name__
                raise UsageError(
                    f"`{command}` needs --{name} MODEL", hint=f"pilotfish {command} --help"
                )
        return recipe


def recipe_options(
    *fields: str | FieldOption, whole: bool = False, settings: str | None = None
) -> Callable[[Callable[..., None]], RecipeCommand]:
    """Give a command the options of recipe fields.

    The function receives them as `recipe`, a checked Recipe. Fields that the command does not offer
    have their defaults there; `data`, `weak` and `strong` are "" where they are not given.

    Args:
        fields: Names of fields, or FieldOption where the help or the default differs. They stand in
            `--help` in the place of the function's parameter `recipe`.
        whole: Whether the command runs a whole recipe: DATA may be RECIPE.yaml, `--set` is applied
            on top, and both models are required.
        settings: Name of a class of pilotfish.config whose fields are options too; the function
            receives it as `settings`.
    """
    options = tuple(FieldOption(each) if isinstance(each, str) else each for each in fields)
    return lambda function: RecipeCommand(function, options, whole, settings)


def parse_map(text: str | None) -> dict[str, str]:
    """Parse `prompt=question,completion=answer` into a dict."""
    pairs: dict[str, str] = {}
    for piece in (text or "").split(",") if text else []:
        field, equals, column = piece.partition("=")
        if not equals or not field.strip() or not column.strip():
            raise UsageError(f"--map: '{piece}' is not field=column")
        pairs[field.strip()] = column.strip()
    return pairs


def parse_names(text: str | None) -> list[str]:
    """Parse a comma-separated list of names."""
    return [piece.strip() for piece in (text or "").split(",") if piece.strip()]


def _typed(
    options: Iterable[FieldOption], model: "type[BaseModel]", values: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings that were typed: defaults must not win over those of a recipe."""
    typed: dict[str, Any] = {}
    for option in options:
        source = values["context"].get_parameter_source(option.name)
        if getattr(source, "name", "") == "COMMANDLINE":
            typed[option.name] = values[option.name]
            if option.name == "map":
                typed["map"] = parse_map(values["map"])
            elif _is_list(model.model_fields[option.name]):
                typed[option.name] = parse_names(values[option.name])
        elif option.default is not None:
            typed[option.name] = option.default
    return typed


def _is_list(field: "FieldInfo") -> bool:
    return list[str] in (field.annotation, *get_args(field.annotation))


def _kind_and_metavar(field: "FieldInfo") -> tuple[Any, str | None]:
    """Return the type of the typed text, and the word that stands for it in `--help`."""
    from pilotfish.config.settings import Metavar

    declared: Any = field.annotation
    if isinstance(declared, UnionType) or type(None) in get_args(declared):
        declared = next(kind for kind in get_args(declared) if kind is not type(None))
    named = next((each.text for each in field.metadata if isinstance(each, Metavar)), None)
    if get_origin(declared) is Literal:
        return str, named or "|".join(get_args(declared))
    if declared in (int, float, bool):
        return declared, named or {int: "N", float: "NUMBER"}.get(declared)
    return str, named or ("NAME,.." if _is_list(field) else None)


def _bounds(field: "FieldInfo", kind: Any) -> dict[str, Any]:
    """Return the smallest and largest value; a float above an open bound is left to the recipe."""
    bounds: dict[str, Any] = {}
    for each in field.metadata:
        if (least := getattr(each, "ge", None)) is not None:
            bounds["min"] = least
        if (most := getattr(each, "le", None)) is not None:
            bounds["max"] = most
        if kind is int and (below := getattr(each, "gt", None)) is not None:
            bounds["min"] = below + 1
    return bounds


def _keyword(name: str, kind: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
