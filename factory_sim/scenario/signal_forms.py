"""What a scenario file may say for a signal: a value, which never changes, or one of six forms.

    20 MW
    {steps: [[0 s, 20 MW], [15 min, 12 MW]]}                  # holds each value until the next
    {daily: [["04:00", 0.4], ["14:00", 1.6]], starts_at: "09:00"}   # linear, round the clock
    {sinusoid: {mean: 1, amplitude: 0.5, period: 24 h, phase: 6 h}}
    {csv: prices.csv, column: usd_per_mwh, unit: USD/MWh}     # times in the column time_s
    {csv: prices.csv, column: usd_per_mwh, unit: USD/MWh, time: hour, timezone: Europe/Berlin}
    {months: [2 degC, 3 degC, ...]}                # of each month, January first, any of the above
    {week: [1, 1, 1, 1, 1, 0.6, 0.5]}              # of each day, Monday first, any of the above

Dates in a file (ISO 8601) count from the scenario's `starts_at`, and so does the time of day.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, Union

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    PrivateAttr,
    Tag,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)

from factory_sim.errors import InputError, Problem
from factory_sim.frozen import Frozen
from factory_sim.scenario.calendar import LEAVES, Calendar
from factory_sim.scenario.moment import moments, start_of
from factory_sim.scenario.signal import DAY_S, Constant, Daily, Linear, Signal, Sinusoid, Steps
from factory_sim.units import NonNegativeSeconds, PositiveSeconds, Seconds, parse, span

T = TypeVar("T")
D = TypeVar("D")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")


def _read_time_of_day(given: Any) -> float:
    example = "write for example '07:30' (in quotes) or '7.5 h'"
    if not isinstance(given, str):
        raise ValueError(f"{given!r} is not a time of day; {example}")
    match = _CLOCK.fullmatch(given.strip())
    if match:
        hours, minutes, seconds = int(match[1]), int(match[2]), int(match[3] or 0)
        time = 3600.0 * hours + 60.0 * minutes + seconds
        if minutes > 59 or seconds > 59:
            raise ValueError(f"{given!r} is not a time of day; {example}")
    else:
        time = parse(given, "s", "07:30")
    if not 0.0 <= time < DAY_S:
        raise ValueError(f"{given!r} is not within one day; {example}")
    return time


TimeOfDay = Annotated[
    float,
    BeforeValidator(_read_time_of_day),
    WithJsonSchema({"type": "string", "examples": ["07:30", "7.5 h"]}),
]


def _increasing(times: Sequence[float], name: str) -> None:
    for before, after in pairwise(times):
        if not before < after:
            raise ValueError(
                f"{name} must increase from one to the next; {after:g} s follows {before:g} s"
            )


class _StepsForm(Frozen, Generic[T], title="steps"):
    steps: Annotated[list[tuple[NonNegativeSeconds, T]], Field(min_length=1)]

    @model_validator(mode="after")
    def _ordered(self) -> _StepsForm[T]:
        _increasing(tuple(time for time, _ in self.steps), "the times of steps")
        return self

    def signal(self) -> Signal:
        times, values = zip(*self.steps, strict=True)
        return Steps(times, values)


class _DailyForm(Frozen, Generic[T], title="daily"):
    daily: Annotated[list[tuple[TimeOfDay, T]], Field(min_length=1)]
    starts_at: TimeOfDay | None = None
    _start_s: float = PrivateAttr(default=0.0)

    @model_validator(mode="after")
    def _starts(self, info: ValidationInfo) -> _DailyForm[T]:
        start = start_of(info.context)
        if self.starts_at is not None:
            self._start_s = self.starts_at
        elif start is not None:
            midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
            self._start_s = (start - midnight).total_seconds()
        return self

    @model_validator(mode="after")
    def _ordered(self) -> _DailyForm[T]:
        _increasing(tuple(time for time, _ in self.daily), "the times of day")
        return self

    def signal(self) -> Signal:
        times, values = zip(*self.daily, strict=True)
        return Daily(times, values, self._start_s)


class _Wave(Frozen, Generic[T, D], title="wave"):
    mean: T
    amplitude: D
    period: PositiveSeconds
    phase: Seconds = 0.0


class _SinusoidForm(Frozen, Generic[T, D], title="sinusoid"):
    sinusoid: _Wave[T, D]

    def signal(self) -> Signal:
        wave: Any = self.sinusoid
        return Sinusoid(wave.mean, wave.amplitude, wave.period, wave.phase)


class _Leaves(Frozen, Generic[T]):
    """Signals that take turns by the calendar of the scenario's `starts_at`."""

    _start: datetime | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _starts(self, info: ValidationInfo) -> _Leaves[T]:
        ((by, leaves),) = self
        if len(leaves) != LEAVES[by]:
            first = {"months": "January", "week": "Monday"}[by]
            raise ValueError(f"'{by}' takes {LEAVES[by]} values, {first} first, not {len(leaves)}")
        self._start = start_of(info.context)
        if self._start is None:
            raise ValueError(
                "follows the calendar; give the scenario the moment at which it starts, for "
                "example 'starts_at: 2025-07-15T14:00+02:00'"
            )
        return self

    def signal(self) -> Signal:
        ((by, leaves),) = self
        assert self._start is not None
        return Calendar(by, tuple(leaves), self._start)  # type: ignore[arg-type]


class _MonthsForm(_Leaves[T], Generic[T], title="months"):
    months: list[T]


class _WeekForm(_Leaves[T], Generic[T], title="week"):
    week: list[T]


class _CsvForm(Frozen, Generic[T], title="csv"):
    csv: str
    column: str
    unit: str = ""
    time: str = "time_s"
    time_unit: str = "s"
    timezone: str | None = None
    between: Literal["hold", "linear"] = "hold"
    _points: tuple[tuple[float, ...], tuple[float, ...]] = PrivateAttr(default=((), ()))

    @model_validator(mode="after")
    def _read(self, info: ValidationInfo) -> _CsvForm[T]:
        base = info.context.get("base", ".") if isinstance(info.context, Mapping) else "."
        written, values = _read_columns(Path(base) / self.csv, self.time, self.column)
        if _is_number(written[0]):
            per_time = span(self.time_unit)
            times = [_number(text, self.csv) * per_time for text in written]
            if self.timezone is not None:
                raise InputError(
                    Problem(
                        "timezone",
                        f"the times in {self.csv} are numbers, which are local to no zone; leave "
                        "it out",
                    )
                )
            _increasing(times, f"the times in {self.csv}")
        else:
            if "time_unit" in self.model_fields_set:
                raise InputError(
                    Problem(
                        "time_unit",
                        f"the times in {self.csv} are dates, which count in no unit; leave it out",
                    )
                )
            times = self._since_start(written, start_of(info.context))
        self._points = (tuple(times), tuple(values))
        return self

    def _since_start(self, written: list[str], start: datetime | None) -> list[float]:
        """Return dates as seconds since the run started; they must leave no gap."""
        if start is None:
            raise ValueError(
                f"the times in {self.csv} are dates; give the scenario the moment at which it "
                "starts, for example 'starts_at: 2025-07-15T14:00+02:00'"
            )
        try:
            dates = moments(written, self.timezone)
        except ValueError as error:
            raise ValueError(f"{self.csv}: {error}") from None
        times = [date.timestamp() - start.timestamp() for date in dates]
        _increasing(times, f"the times in {self.csv}")
        steps = [after - before for before, after in pairwise(times)]
        usual = sorted(steps)[len(steps) // 2] if steps else 0.0
        for text, step in zip(written, steps, strict=False):
            if step > 1.5 * usual:
                raise ValueError(
                    f"{self.csv} has a gap of {step / 3600:g} h after {text}, where its values "
                    f"are {usual / 3600:g} h apart; fill it in"
                )
        if times[0] > 0.0 or times[-1] + usual < 0.0:
            raise ValueError(
                f"{self.csv} goes from {written[0]} to {written[-1]} and does not hold the start "
                f"of the run, {start.isoformat()}"
            )
        return times

    def signal(self, read: Callable[[str | float], float]) -> Signal:
        """Return the signal; read: turns a number with the unit into SI, affinely."""
        times, numbers = self._points

        def si(number: float) -> float:
            try:
                return read(f"{number!r} {self.unit}" if self.unit else number)
            except ValidationError as error:
                raise ValueError(
                    f"{self.csv}, column {self.column}: {number:g} {_reason(error)}"
                ) from None

        low, high = min(numbers), max(numbers)
        first, last = si(low), si(high)
        slope = (last - first) / (high - low) if high > low else 0.0
        values = tuple(first + slope * (number - low) for number in numbers)
        written = self.model_dump(exclude_defaults=True)
        return (Steps if self.between == "hold" else Linear)(times, values, written)


def _read_columns(path: Path, time: str, column: str) -> tuple[list[str], list[float]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            header = rows.fieldnames or []
            for name in (time, column):
                if name not in header:
                    raise ValueError(f"{path} has no column {name!r}; it has {', '.join(header)}")
            pairs = [_row(row[time], row[column], path, rows.line_num) for row in rows]
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file in UTF-8") from None
    if not pairs:
        raise ValueError(f"{path} has a header but no rows")
    return [time for time, _ in pairs], [value for _, value in pairs]


def _row(time: str | None, value: str | None, path: Path, line: int) -> tuple[str, float]:
    if not time or not time.strip():
        raise ValueError(f"{path}, line {line}: there is no time")
    if not value or not _is_number(value):
        raise ValueError(f"{path}, line {line}: {value!r} is no number")
    if not math.isfinite(float(value)):
        raise ValueError(f"{path}, line {line}: {value!r} is not finite")
    return time.strip(), float(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str, file: str) -> float:
    if not _is_number(text) or not math.isfinite(float(text)):
        raise ValueError(f"{file}: {text!r} is no finite number of seconds")
    return float(text)


class OrPlain:
    """Lets the JSON schema of a field say that it takes a plain value beside its mappings."""

    def __init__(self, value: TypeAdapter[Any]) -> None:
        self.value = value

    def __get_pydantic_json_schema__(self, core: Any, handler: GetJsonSchemaHandler) -> Any:
        forms = handler(core)
        return {"anyOf": [self.value.json_schema(), *forms.get("oneOf", [forms])]}


def _within(wave: Sinusoid, value: TypeAdapter[Any]) -> None:
    """Refuse a wave that swings beyond what its quantity may be."""
    for reached in (wave.mean - abs(wave.amplitude), wave.mean + abs(wave.amplitude)):
        try:
            value.validate_python(value.dump_python(reached))
        except ValidationError as error:
            raise ValueError(
                f"swings to {value.dump_python(reached)}, which {_reason(error)}; take a smaller "
                "amplitude"
            ) from None


def _reason(error: ValidationError) -> str:
    """Return what is wrong with a value, to follow it in a sentence."""
    said = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return said.replace("Input should be", "should be")


def signal_of(quantity: Any, difference: Any = None) -> Any:
    """Return the annotated type of a field that holds a Signal of `quantity`.

    difference: the type of a difference of two such quantities, where that is another.

    quantity: an annotated type of `factory_sim.units`, such as Watts, or any pydantic type
    that validates to a float. A CSV path is taken relative to `base` of the validation
    context, else to the working directory.
    """
    value: TypeAdapter[Any] = TypeAdapter(quantity)
    waves: Any = _SinusoidForm
    forms: dict[str, Any] = {
        "steps": _StepsForm[quantity],
        "daily": _DailyForm[quantity],
        "sinusoid": waves[quantity, difference or quantity],
        "csv": _CsvForm[quantity],
    }
    leaf = _either(value, forms)
    months: Any = _MonthsForm
    week: Any = _WeekForm
    return _either(value, forms | {"months": months[leaf], "week": week[leaf]})


def _either(value: TypeAdapter[Any], forms: Mapping[str, Any]) -> Any:
    """Return the annotated type of a Signal that is written as a value or in one of some forms."""

    def which(given: Any) -> str | None:
        found = [form.__name__ for key, form in forms.items() if key in given]
        return found[0] if found else None

    def read(given: Any, forms_of: Callable[[Any], Any]) -> Signal:
        if isinstance(given, Signal):
            return given
        if not isinstance(given, Mapping):
            return Constant(value.validate_python(given))
        form = forms_of(given)
        if isinstance(form, _CsvForm):
            return form.signal(value.validate_python)
        signal: Signal = form.signal()
        if isinstance(signal, Sinusoid):
            _within(signal, value)
        return signal

    example = value.json_schema().get("examples", [1.0])[0]
    tagged: Any = tuple(Annotated[form, Tag(form.__name__)] for form in forms.values())
    union = Annotated[
        Union[tagged],  # noqa: UP007 (built from a tuple)
        Discriminator(
            which,
            custom_error_type="signal_form",
            custom_error_message=f"is no signal; write a value such as '{example}', or a mapping "
            f"with one of the keys {', '.join(forms)}",
        ),
    ]
    return Annotated[
        union,
        WrapValidator(read),
        PlainSerializer(lambda signal: signal.written(value.dump_python)),
        OrPlain(value),
    ]
