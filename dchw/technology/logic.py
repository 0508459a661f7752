"""Arithmetic and storage out of gates: energy, area, leakage and delay by width, from one named family at a time.

``horowitz-45nm``
    Headline energies of Horowitz (ISSCC 2014) at 45 nm, 0.9 V, with the areas of Dally's tutorial: integer and
    floating-point add and multiply. It lists no register, multiplexer or shifter, no leakage and no delay: those, and
    only those, are Aladdin's, and their source says that this family lists none.
``aladdin-40nm``
    Synthesised blocks of Aladdin (ISCA 2014) in a commercial 40 nm process: energy, leakage, area and delay of one
    design per clock period, so that they agree. The slowest design that still meets the clock is taken.

Rules of width, named in the source of every figure they touch: adders, comparators, counters, registers and
multiplexers grow linearly; multipliers quadratically; a barrel shifter with w log2 w; delays with 1 + log2 w.
Widths the family lists are reproduced exactly; between two of them a figure lies on their log-log line, and its range
spans the rule from both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property, lru_cache

from dchw.quantities import DchwError, nearest
from dchw.tables import read_table
from dchw.technology.figure import SOURCE_JOINT, Confidence, Figure, combine
from dchw.technology.scaling import (
    PUBLISHED_NODE_NM,
    Quantity,
    Scaling,
    check_method,
    check_node,
    inverter_factor,
    scaled,
)

UM2_PER_MM2 = 1e6
FAMILIES = ("horowitz-45nm", "aladdin-40nm")
COMPLETE_FAMILY = "aladdin-40nm"
"""The one that lists every operation with energy, area, leakage and delay."""


class LogicOperation(StrEnum):
    """What a family may list; widths are bits of one operand."""

    ADD = "integer add"
    MULTIPLY = "integer multiply"
    FLOAT_ADD = "float add"
    FLOAT_MULTIPLY = "float multiply"
    REGISTER = "register"
    MUX2 = "2:1 multiplexer"
    COMPARE = "comparator"
    COUNT = "counter"
    SHIFT = "barrel shifter"


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block: energy per operation, area, leakage, and delay (0 for registers: clock-to-output is not modelled)."""

    energy_pj: Figure
    area_mm2: Figure
    leakage_mw: Figure
    delay_ns: Figure

    def times(self, count: float) -> Block:
        """``count`` copies working side by side; the delay stays."""
        return Block(
            energy_pj=self.energy_pj * count,
            area_mm2=self.area_mm2 * count,
            leakage_mw=self.leakage_mw * count,
            delay_ns=self.delay_ns,
        )


@dataclass(frozen=True, kw_only=True)
class _Listed:
    """One listed design: values at its width, None where the family lists none."""

    bits: int
    source: str
    energy_pj: float
    area_mm2: float | None = None
    leakage_mw: float | None = None
    delay_ns: float | None = None


_HOROWITZ_NAMES = {
    "int_add": LogicOperation.ADD,
    "int_mult": LogicOperation.MULTIPLY,
    "fp_add": LogicOperation.FLOAT_ADD,
    "fp_mult": LogicOperation.FLOAT_MULTIPLY,
}
# Designs of one clock period each; the multiplexer is a gate of the bitwise row, the proxy the component list derives.
_ALADDIN_NAMES = {
    "int_adder_subtractor": LogicOperation.ADD,
    "int_multiplier": LogicOperation.MULTIPLY,
    "fp32_adder_3stage": LogicOperation.FLOAT_ADD,
    "fp32_multiplier_3stage": LogicOperation.FLOAT_MULTIPLY,
    "flip_flop_register": LogicOperation.REGISTER,
    "bitwise_and_or_xor": LogicOperation.MUX2,
    "comparator": LogicOperation.COMPARE,
    "counter": LogicOperation.COUNT,
    "barrel_shifter": LogicOperation.SHIFT,
}
_ALADDIN_SOURCE = "Aladdin (ISCA 2014), commercial 40 nm, {name} at {cycle:g} ns"


def _linear(bits: float) -> float:
    return bits


def _quadratic(bits: float) -> float:
    return bits * bits


def _shifter(bits: float) -> float:
    return bits * max(math.log2(bits), 1.0)


def _depth(bits: float) -> float:
    return 1.0 + math.log2(bits)


_GROWTH: dict[LogicOperation, tuple[Callable[[float], float], str]] = {
    LogicOperation.ADD: (_linear, "linear"),
    LogicOperation.MULTIPLY: (_quadratic, "quadratic"),
    LogicOperation.FLOAT_ADD: (_linear, "linear"),
    LogicOperation.FLOAT_MULTIPLY: (_quadratic, "quadratic"),
    LogicOperation.REGISTER: (_linear, "linear"),
    LogicOperation.MUX2: (_linear, "linear"),
    LogicOperation.COMPARE: (_linear, "linear"),
    LogicOperation.COUNT: (_linear, "linear"),
    LogicOperation.SHIFT: (_shifter, "w log2 w"),
}
MAX_BITS = 256


@dataclass(frozen=True, kw_only=True)
class Logic:
    """One family at one node; ``clock_period_ns`` picks the design of ``aladdin-40nm`` (the others list one only)."""

    family: str = "aladdin-40nm"
    node_nm: float = 45
    scaling: Scaling = Scaling.INVERTER
    clock_period_ns: float = 1.0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise DchwError(
                f"logic: family: expected one of {', '.join(FAMILIES)}; got {self.family!r}; "
                f"{nearest(self.family, FAMILIES)}"
            )
        check_node(self.node_nm, "logic")
        check_method(self.scaling, self.node_nm)
        if not (self.clock_period_ns > 0 and math.isfinite(self.clock_period_ns)):
            raise DchwError(
                f"logic: clock period: expected a positive number of nanoseconds; got {self.clock_period_ns}; "
                "give the period of the unit's clock"
            )

    @property
    def family_node_nm(self) -> float:
        """The node the family was published at."""
        return 45.0 if self.family == "horowitz-45nm" else 40.0

    def lists(self, operation: LogicOperation) -> bool:
        """Whether the family itself has figures for an operation."""
        return operation in self._designs

    def block(self, operation: LogicOperation, bits: float) -> Block:
        """The block for ``bits``-wide operands; what the family does not list comes from ``aladdin-40nm``, noted.

        Raises DchwError where the width is outside 1 .. 256 bits.
        """
        return _block(self, operation, bits)

    def _own(self, operation: LogicOperation, bits: float) -> dict[str, Figure]:
        """What the family itself knows of a block, by the names of `Block`."""
        designs, published = self._designs[operation], self._published.get(operation)
        growth, rule = _GROWTH[operation]
        found = {"energy_pj": self._listed(_sized(designs, "energy_pj", bits, growth, rule, "pJ"), Quantity.ENERGY)}
        if published:
            small = _sized(published, "energy_pj", bits, growth, rule, "pJ")
            large = _sized(designs, "energy_pj", bits, growth, rule, "pJ")
            found["energy_pj"] = self._between_published(small, large)
        found["area_mm2"] = self._listed(_sized(designs, "area_mm2", bits, growth, rule, "mm2"), Quantity.AREA)
        found["leakage_mw"] = self._listed(_sized(designs, "leakage_mw", bits, growth, rule, "mW"), Quantity.LEAKAGE)
        found["delay_ns"] = self._listed(_sized(designs, "delay_ns", bits, _depth, "1 + log2 w", "ns"), Quantity.DELAY)
        return {name: figure for name, figure in found.items() if figure is not None}

    def add(self, bits: int) -> Block:
        """Integer adder or subtractor."""
        return self.block(LogicOperation.ADD, bits)

    def multiply(self, bits: float) -> Block:
        """Integer multiplier of two ``bits``-wide operands; for unequal ones the geometric mean of their widths."""
        return self.block(LogicOperation.MULTIPLY, bits)

    def float_add(self, bits: int) -> Block:
        """Floating-point adder (16 or 32 bits are listed)."""
        return self.block(LogicOperation.FLOAT_ADD, bits)

    def float_multiply(self, bits: float) -> Block:
        """Floating-point multiplier (16 or 32 bits are listed)."""
        return self.block(LogicOperation.FLOAT_MULTIPLY, bits)

    def register(self, bits: int) -> Block:
        """Flip-flops; the energy is of one clocked cycle, a gated register spends none."""
        return self.block(LogicOperation.REGISTER, 1).times(bits)

    def compare(self, bits: int) -> Block:
        """Magnitude comparator."""
        return self.block(LogicOperation.COMPARE, bits)

    def count(self, bits: int) -> Block:
        """Counter, one step."""
        return self.block(LogicOperation.COUNT, bits)

    def barrel_shift(self, bits: int) -> Block:
        """Shift of a ``bits``-wide word by any distance."""
        return self.block(LogicOperation.SHIFT, bits)

    def mux(self, inputs: int, bits: int) -> Block:
        """``inputs`` to 1, ``bits`` wide: a tree of 2:1 gates; one path per bit switches."""
        if inputs < 1 or bits < 1:
            raise DchwError(
                f"logic: multiplexer: expected at least 1 input and 1 bit; got {inputs} and {bits}; leave it out"
            )
        gate = self.block(LogicOperation.MUX2, 1)
        levels = max(inputs - 1, 0).bit_length()
        gates = gate.times(bits * (inputs - 1))
        return Block(
            energy_pj=gate.energy_pj * (bits * levels),
            area_mm2=gates.area_mm2,
            leakage_mw=gates.leakage_mw,
            delay_ns=gate.delay_ns * levels,
        )

    def _between_published(self, small: Figure | None, large: Figure | None) -> Figure | None:
        """An energy between what the family lists at its own node and what is published at 7 nm, a line in log-log."""
        if small is None or large is None or self.node_nm == PUBLISHED_NODE_NM:
            return small
        share = math.log(self.node_nm / PUBLISHED_NODE_NM) / math.log(self.family_node_nm / PUBLISHED_NODE_NM)
        ends = ((small.nominal, large.nominal), (small.low, large.low), (small.high, large.high))
        nominal, low, high = (at_7 ** (1 - share) * own**share for at_7, own in ends)
        inverter = self._listed(large, Quantity.ENERGY)
        low = low if inverter is None else min(low, inverter.nominal)
        sources = combine((small, large)).source
        source = f"{sources}{SOURCE_JOINT}between the two nodes by log-log interpolation to {self.node_nm:g} nm"
        figure = Figure(nominal, min(low, nominal), max(high, nominal), "pJ", source, Confidence.INTERPOLATED)
        return figure.because(f"logic between published nodes, at {self.node_nm:g} nm")

    @cached_property
    def _complete(self) -> Logic:
        return replace(self, family=COMPLETE_FAMILY)

    @cached_property
    def _designs(self) -> dict[LogicOperation, list[_Listed]]:
        return _horowitz("horowitz_isscc14") if self.family == "horowitz-45nm" else self._aladdin()

    @cached_property
    def _published(self) -> dict[LogicOperation, list[_Listed]]:
        return _horowitz("tpuv4i_table2") if self.scaling is Scaling.PUBLISHED else {}

    def _listed(self, figure: Figure | None, quantity: Quantity) -> Figure | None:
        return None if figure is None else scaled(figure, quantity, self.family_node_nm, self.node_nm)

    def _aladdin(self) -> dict[LogicOperation, list[_Listed]]:
        """The slowest listed design per block that meets the clock at the family's own node."""
        own_period = self.clock_period_ns / inverter_factor(Quantity.DELAY, 40, self.node_nm).nominal
        out: dict[LogicOperation, list[_Listed]] = {}
        for name, operation in _ALADDIN_NAMES.items():
            rows = [row for row in read_table("components.csv") if row["component"] == name]
            rows.sort(key=lambda row: float(row["cycle_ns"]))
            meeting = [row for row in rows if float(row["cycle_ns"]) <= own_period] or rows[:1]
            row = meeting[-1]
            bits, share = int(row["width_bits"]), 1.0
            if operation is LogicOperation.MUX2:
                bits, share = 1, 1 / int(row["width_bits"])
            source = _ALADDIN_SOURCE.format(name=name.replace("_", " "), cycle=float(row["cycle_ns"]))
            out[operation] = [
                _Listed(
                    bits=bits,
                    source=source,
                    energy_pj=float(row["energy_pj"]) * share,
                    area_mm2=float(row["area_um2"]) * share / UM2_PER_MM2,
                    leakage_mw=float(row["leakage_mw"]) * share,
                    delay_ns=_delay_ns(operation, row),
                )
            ]
        return out


@lru_cache(maxsize=4096, typed=True)
def _block(logic: Logic, operation: LogicOperation, bits: float) -> Block:
    """`Logic.block`, worked out once: the units of a machine ask for the same few blocks over and over."""
    if not 1 <= bits <= MAX_BITS:
        raise DchwError(f"logic: {operation}: expected 1 to {MAX_BITS} bits; got {bits:g}; use several blocks")
    own = logic._own(operation, bits) if logic.lists(operation) else {}
    if logic.family == COMPLETE_FAMILY:
        return Block(**own)
    completed = logic._complete._own(operation, bits)
    return Block(**{name: _standing_in(figure, logic.family) for name, figure in completed.items()} | own)


def _standing_in(figure: Figure, family: str) -> Figure:
    """A figure of another family in place of ``family``'s; the source of the design comes first and says so."""
    design, *rest = figure.sources
    weaker = max(figure.confidence, Confidence.DERIVED, key=lambda c: c.rank)
    return replace(figure, source=SOURCE_JOINT.join((f"{design} ({family} lists none)", *rest)), confidence=weaker)


def _sized(
    designs: list[_Listed], name: str, bits: float, growth: Callable[[float], float], rule: str, unit: str
) -> Figure | None:
    """One value at a width: listed, on the log-log line between two listed widths, or by rule from the nearest."""
    known = [(d, float(getattr(d, name))) for d in designs if getattr(d, name) is not None]
    if not known:
        return None
    narrower = [(d, v) for d, v in known if d.bits <= bits][-1:]
    wider = [(d, v) for d, v in known if d.bits >= bits][:1]
    ends = narrower + wider
    if narrower == wider:
        design, value = narrower[0]
        return Figure(value, value, value, unit, design.source, Confidence.PUBLISHED)
    by_rule = [value * growth(bits) / growth(design.bits) for design, value in ends]
    source = SOURCE_JOINT.join(f"{design.source}, {rule} in width to {bits:g} bits" for design, _ in ends)
    nominal = by_rule[0]
    if len(ends) == 2:
        (low, low_value), (high, high_value) = ends
        share = math.log(bits / low.bits) / math.log(high.bits / low.bits)
        nominal = low_value ** (1 - share) * high_value**share
    figure = Figure(nominal, min(nominal, *by_rule), max(nominal, *by_rule), unit, source, Confidence.DERIVED)
    return figure.because("logic between the widths its family lists")


def _delay_ns(operation: LogicOperation, row: Mapping[str, str]) -> float:
    """The critical path; where none is listed, the clock period the design was built for; 0 for registers."""
    if operation is LogicOperation.REGISTER:
        return 0.0
    return float(row["critical_path_ns"] or row["cycle_ns"])


def _horowitz(group: str) -> dict[LogicOperation, list[_Listed]]:
    """Listed energies of one group of the table of operations, by operation, ascending width."""
    out: dict[LogicOperation, list[_Listed]] = {}
    for row in read_table("ops_energy.csv"):
        operation = _HOROWITZ_NAMES.get(row["operation"])
        if row["group"] == group and operation is not None:
            out.setdefault(operation, []).append(
                _Listed(
                    bits=int(row["bits"]),
                    source=f"{row['source']}, {row['bits']}-bit {operation}",
                    energy_pj=float(row["value"]),
                    area_mm2=float(row["area_um2"]) / UM2_PER_MM2 if row["area_um2"] else None,
                )
            )
    for designs in out.values():
        designs.sort(key=lambda d: d.bits)
    return out
