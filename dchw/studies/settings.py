"""What a user writes about a study: one YAML file, every fault of it reported at once."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from dchw import showing
from dchw.compression.recipe import Recipe
from dchw.config import Config, NonNegative, Positive
from dchw.formats import DEFAULT_FORMAT, STORAGE_FORMATS, storage_format
from dchw.quantities import ConfigError, DchwError, format_quantity, nearest, split_quantity
from dchw.studies.expressions import Expression

MOST_VALUES = 100_000
"""Values of one parameter."""
RUN_KEYS = {"batch": int, "warm": bool}
"""What may vary besides a machine's and a recipe's fields, with its kind."""
RECIPE_PREFIX = "recipe."
TRAINING_PREFIX = "training."
Scalar = bool | int | float | str
Objective = Literal["latency_us", "energy_pj", "area_mm2", "file_bytes", "dram_read_bytes", "error_pct"]


class Range(Config):
    """Values from ``from`` to at most ``to``, by adding ``step`` or by multiplying by ``factor``.

    Ends with units give values with units: ``{from: 64 KiB, to: 4 MiB, factor: 2}``.
    """

    start: int | float | str = Field(alias="from")
    """First value."""
    end: int | float | str = Field(alias="to")
    """No value is larger."""
    step: int | float | str | None = None
    """Added from value to value."""
    factor: float | None = Field(default=None, gt=1)
    """Multiplied from value to value."""

    @model_validator(mode="after")
    def _can_be_walked(self) -> Self:
        if (self.step is None) == (self.factor is None):
            raise ValueError("expected one of step and factor; write {from: 4, to: 64, factor: 2}")
        start, end = self._exact(self.start), self._exact(self.end)
        step = (Fraction(1), self._dimension) if self.step is None else self._exact(self.step)
        if len({start[1], end[1], step[1]}) > 1:
            raise ValueError(f"expected from, to and step in units of one kind; got {self.start}, {self.end}")
        if start[0] > end[0] or step[0] <= 0 or (self.factor is not None and start[0] <= 0):
            raise ValueError(f"expected a range that rises; got {self.start} to {self.end}")
        if sum(1 for _ in zip(range(MOST_VALUES + 1), self._walk(), strict=False)) > MOST_VALUES:
            raise ValueError(f"expected at most {MOST_VALUES:,} values; widen the step")
        return self

    @property
    def values(self) -> list[Scalar]:
        """The values, in rising order."""
        dimension = self._dimension
        if dimension:
            return [format_quantity(value, dimension) for value in self._walk()]
        return [int(value) if value.denominator == 1 else float(value) for value in self._walk()]

    @property
    def _dimension(self) -> str:
        return self._exact(self.start)[1]

    def _walk(self) -> Iterator[Fraction]:
        at, end = self._exact(self.start)[0], self._exact(self.end)[0]
        while at <= end:
            yield at
            at = at * Fraction(str(self.factor)) if self.factor is not None else at + self._exact(self.step)[0]

    def _exact(self, value: object) -> tuple[Fraction, str]:
        if isinstance(value, str):
            found = split_quantity(value)
            if found is None:
                raise ValueError(f"expected a number, or a number with its unit; got {value!r}")
            return found
        return Fraction(str(value)), ""


class SearchSettings(Config):
    """How to look for the front of a space without running all of it; ``search: {budget: 100}``."""

    budget: Positive
    """Points to run for each network."""
    sampler: Literal["surface", "tpe", "nsga2", "random"] = "surface"
    """A surface through the points that ran, which knows what lies between them; or, by optuna (extra ``search``), a
    tree-structured Parzen estimator, NSGA-II (for budgets of many generations), or blind choice."""
    objectives: Annotated[list[Objective], Field(min_length=1)] = Field(default=["latency_us", "energy_pj", "area_mm2"])
    """What to lower at once."""
    generation: Annotated[int, Field(ge=2, strict=True)] = 8
    """Points asked for before the next are chosen; they may run at the same time."""
    warm_start: list[str] = Field(default=[])
    """Folders of finished or interrupted studies: their rows that are points of this space are taken over."""

    @model_validator(mode="after")
    def _objectives_differ(self) -> Self:
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives: expected each once; got {self.objectives}")
        return self


def _list_of_one(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _checked_format(name: str) -> str:
    try:
        return storage_format(name).name
    except DchwError as error:
        raise ValueError(f"got {name!r}; {nearest(name, STORAGE_FORMATS)}") from error


def _checked_expression(text: object) -> object:
    try:
        return Expression(str(text)).text
    except ConfigError as error:
        raise ValueError(str(error)) from None


OneOrMore = BeforeValidator(_list_of_one)
Words = Annotated[list[str], OneOrMore, Field(min_length=1)]
Formats = Annotated[list[Annotated[str, BeforeValidator(_checked_format)]], OneOrMore, Field(min_length=1)]
Formula = Annotated[str, BeforeValidator(_checked_expression)]


class StudySettings(Config):
    """A study: which networks run on which machines, what varies, and which points count."""

    name: str = Field(default="study", pattern=r"[A-Za-z0-9][A-Za-z0-9_.-]*")
    """Of the study; by default its file's."""
    question: str = ""
    """What the study is to answer; stands on top of its report."""
    networks: Words
    """Files or built-in names; dense networks need ``recipes`` or a ``recipe.`` key to vary. A training recipe
    (``.yaml``) stands for the network that it trains; each is trained once."""
    recipes: dict[str, Recipe] = Field(default={})
    """Recipes by a name of one's own, each used on every network."""
    machines: Words = Field(default=["phone-lpddr5x"])
    """Presets or YAML files."""
    storages: Formats = Field(default=[DEFAULT_FORMAT])
    """Storage formats, each run at every point."""
    set: dict[str, Scalar] = Field(default={})
    """Fields of the machine that all points share."""
    vary: dict[str, list[Scalar] | Range] = Field(default={})
    """Values by key: a machine's field (``huffman.units``), a recipe's (``recipe.index_bits``), a training recipe's
    (``training.pruning.density``, ``training.seed``), ``batch``, ``warm``."""
    together: list[list[str]] = Field(default=[])
    """Groups of keys whose lists are walked side by side and not crossed."""
    derive: dict[str, Formula] = Field(default={})
    """Fields of the machine that follow from others: ``pe_array.elements: 4 * huffman.units``."""
    only: list[Formula] = Field(default=[])
    """Conditions a point must meet, on keys (then it is not run at all) or on results (then it is marked)."""
    search: SearchSettings | None = None
    """Look for the front instead of running every point."""
    weights: Literal["stored", "seeded"] = "stored"
    """What layers hold before a recipe compresses them: the networks' own weights, or seeded normal ones, for densities
    that no training gave. Such a table says so in a column."""
    batch: Annotated[int, Field(ge=1, strict=True)] = 1
    """Inputs worked at once."""
    warm: bool = False
    """Whether weights that fit are in the weight SRAM from the run before."""
    seed: NonNegative = 0
    """Seed of synthetic activations, of seeded weights, and of a search."""
    arithmetic: Literal["float32", "fixed16", "none"] = "float32"
    """What outputs are computed in; ``none`` for timing only."""

    def choices(self, key: str) -> list[Scalar]:
        """The values of a key that varies."""
        values = self.vary[key]
        return values.values if isinstance(values, Range) else values

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        faults = []
        for key in self.vary:
            values = self.choices(key)
            if not values:
                faults.append(f"vary.{key}: expected at least one value; got none")
            if len({repr(value) for value in values}) < len(values):
                faults.append(f"vary.{key}: expected values that differ; got {values}; drop the twins")
            kind: Any = RUN_KEYS.get(key)
            wrong = [value for value in values if kind is not None and type(value) is not kind]
            if wrong:
                faults.append(f"vary.{key}: expected values of type {kind.__name__}; got {wrong[0]!r}")
        faults += self._faults_of_groups()
        for key in self.derive:
            if key in self.vary or key in self.set:
                faults.append(f"derive.{key}: set or varied as well; keep one")
        for key in self.set:
            if key in self.vary:
                faults.append(f"set.{key}: varied as well; keep one")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _faults_of_groups(self) -> list[str]:
        faults = []
        grouped = [key for group in self.together for key in group]
        for key in grouped:
            if key not in self.vary:
                faults.append(f"together: {key!r} does not vary; {nearest(key, self.vary)}")
            if grouped.count(key) > 1:
                faults.append(f"together: {key!r} stands in it twice; keep one")
        for group in self.together:
            sizes = {key: len(self.choices(key)) for key in group if key in self.vary}
            if len(set(sizes.values())) > 1:
                faults.append(f"together: expected lists of one length; got {sizes}")
        return faults

    def __repr__(self) -> str:
        return showing.call(type(self).__name__, {name: getattr(self, name) for name in sorted(self.model_fields_set)})
