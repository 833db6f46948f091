"""What the sections of a search space have in common."""

from __future__ import annotations

from functools import cached_property
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from errors import shown


class Section(BaseModel):
    """A section: its keys are known, its values do not change, and its numbers are numbers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, ignored_types=(cached_property,)
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where pydantic would read 1 and 0."""
        listed = isinstance(value, list | tuple)
        truths = [item for item in (value if listed else [value]) if isinstance(item, bool)]
        field = cls.model_fields.get(info.field_name or "")
        kinds = _kinds(field.annotation) if field else set()
        numbers = kinds & {int, float}
        if not truths or not numbers or bool in kinds:
            return value
        if listed:
            raise ValueError(f"{shown(truths[0])} is no number")
        raise PydanticCustomError("int_type" if numbers == {int} else "float_type", "")


def _kinds(hint: Any) -> set[Any]:
    """Return the types that a hint is made of."""
    return {hint}.union(*map(_kinds, get_args(hint))) if get_args(hint) else {hint}
