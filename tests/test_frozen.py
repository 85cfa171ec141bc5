"""What a part of a scenario says of itself when it cannot be read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from factory_sim.errors import InputError, Problem
from factory_sim.frozen import Frozen, validate

Count = Annotated[int, Field(gt=0, strict=True)]


class Row(Frozen):
    count: Count | Literal["fill"]
    height: float = 2.0


class Hall(Frozen):
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    doors: dict[str, Row] = Field(default_factory=dict)
    title: Annotated[str, Field(min_length=1)] = "hall"

    @model_validator(mode="after")
    def _fits(self) -> Hall:
        if len(self.rows) > 2:
            raise InputError([Problem("rows", "are too many"), Problem("title", "is too short")])
        return self


class Site(Frozen):
    hall: Hall


def said(**given: Any) -> list[str]:
    """Return what is wrong with a hall."""
    with pytest.raises(InputError) as error:
        validate(Hall, {"rows": [{"count": 1}]} | given)
    return [str(problem) for problem in error.value.problems]


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        (-1, "must be greater than 0, or 'fill', not -1"),
        ("lots", "must be a whole number, or 'fill', not 'lots'"),
        (1.5, "must be a whole number, or 'fill', not 1.5"),
    ],
)
def test_a_field_of_two_kinds_makes_one_sentence(count: object, sentence: str) -> None:
    assert said(rows=[{"count": count}]) == [f"rows.0.count: {sentence}"]
    assert said(doors={"front": {"count": count}}) == [f"doors.front.count: {sentence}"]


def test_a_list_is_too_short_only_when_it_is() -> None:
    assert said(rows=[]) == ["rows: must hold at least 1, not 0"]
    assert said(rows=3) == ["rows: must be a list, not 3"]


def test_an_unknown_key_hears_its_neighbours_wherever_it_is() -> None:
    guess = "unknown key; did you mean 'height'?"
    assert said(rows=[{"count": 1, "heigth": 3}]) == [f"rows.0.heigth: {guess}"]
    assert said(doors={"front": {"count": 1, "heigth": 3}}) == [f"doors.front.heigth: {guess}"]
    assert said(rows=[{"count": 1, "zzz": 3}]) == [
        "rows.0.zzz: unknown key; known keys: count, height"
    ]


def test_numbers_and_texts_in_plain_words() -> None:
    assert said(rows=[{"count": 1, "height": "tall"}], title="") == [
        "rows.0.height: must be a number, not 'tall'",
        "title: must have at least 1 character, not ''",
    ]
    assert said(rows=[{"count": 1, "height": float("nan")}]) == [
        "rows.0.height: must be a finite number, not nan"
    ]
    assert said(title=None) == ["title: must be a text, and is empty"]


def test_problems_found_inside_keep_their_own_paths() -> None:
    with pytest.raises(InputError) as error:
        validate(Site, {"hall": {"rows": [{"count": 1}] * 3}})
    assert error.value.problems == (
        Problem("hall.rows", "are too many"),
        Problem("hall.title", "is too short"),
    )


def test_what_is_read_stays_as_it_is() -> None:
    row = Row(count=1)
    with pytest.raises(ValidationError, match="frozen"):
        row.count = 2  # type: ignore[misc]
