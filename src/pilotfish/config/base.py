"""What all blocks of a recipe have in common."""

from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError


@dataclass(frozen=True)
class Metavar:
    """The word for a field's value in `--help`, as in `Annotated[str, Metavar("MODEL")]`."""

    text: str


class Block(BaseModel):
    """Settings that are checked: none unknown, no nan or infinity, and yes is not the number 1.

    The docstring below a field is its description: in the JSON Schema, and as the help of the
    command-line option that is built from the field.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_yes_for_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads yes, no, on and off as truth values, which Python takes for 1 and 0."""
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and bool not in (kind, *get_args(kind)):
            raise PydanticCustomError("truth", "Input should be no yes or no")
        return value
