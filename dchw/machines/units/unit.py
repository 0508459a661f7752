"""What every hardware unit is: parameters a user writes, ports, timing, what it counts and what its events cost.

One protocol, `Unit`. Parameters are its pydantic fields; timing rules are methods that return whole cycles and know no
engine; ``links`` names its ports with their widths; ``costs`` composes energies and area from `dchw.technology`;
``counts`` says how often it does what, from what a stage's firings let through (`Flow`). What depends on the machine
around a unit and on the storage format comes in as a `Setting`.

Adding a unit: its file here, a field of the machine, and, where it does its work in step with another unit,
``works_with``, which is its wiring. The field's name is the unit's name everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from dchw.config import Config
from dchw.formats import Need
from dchw.program.flow import Flow
from dchw.vocabulary import Stream

if TYPE_CHECKING:
    from dchw.machines.silicon import NumberFormats
    from dchw.technology.building_blocks import Parts
    from dchw.technology.figure import Figure


MEMORY = "DRAM"
"""The category of what is not on the chip."""


class Direction(StrEnum):
    """Which way data goes through a port."""

    IN = "in"
    OUT = "out"


@dataclass(frozen=True, kw_only=True)
class Port:
    """One link of a unit, or ``copies`` equal ones side by side."""

    direction: Direction
    bits: int
    """Width of what moves at a time."""
    copies: int = 1


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where a unit works: the machine around it, and what the storage format asks of that machine."""

    formats: NumberFormats
    """What is multiplied; with several kinds of arithmetic, the widest."""
    also_built: tuple[NumberFormats, ...]
    """Other arithmetic whose multipliers are there, idle."""
    elements: int
    lanes: int
    weight_word_bits: int
    weight_banks: int
    activation_word_bits: int
    decode_units: int
    decode_at_use: bool
    entry_bits: int
    """Width of a decoded entry."""
    needs: frozenset[Need]
    positions: bool
    """Weights are stored with positions; otherwise all elements work in lockstep."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """So many events of one kind; ``stream`` where bytes of one stream cause them."""

    event: str
    count: int
    stream: Stream | None = None


@dataclass(frozen=True, kw_only=True)
class Face:
    """How reports show a unit."""

    label: str
    category: str
    """What its events are summed under in short tables; clock and leakage are categories of their own."""
    stage: str
    """The step of the data path it belongs to, its clock and leakage included."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """What a unit's work is called where it bounds a run."""

    name: str
    title: str
    """As a sentence or a panel begins with it."""
    allows: str
    """As that which would allow more: ``the DRAM``, ``decoding``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitCosts:
    """What one whole unit costs: all its copies together for leakage, area and clock."""

    energy_pj: Mapping[str, Figure]
    """Energy per event: an `Event`, or the name of an event that only this unit has."""
    leakage_mw: Figure
    area_mm2: Figure
    clock_pj: Figure | None
    """Per cycle in which all of it is clocked; None where the events hold it (SRAM macros)."""
    delay_ns: Figure | None
    """Slowest path between two registers; None where nothing is listed."""


class Unit(Config):
    """Base of all units: parameters are the fields, and each method below has its own answer where it has one."""

    label: ClassVar[str] = ""
    """The unit as readers call it; where empty, its name in words."""
    category: ClassVar[str] = "compute"
    """DRAM, SRAM, decode or compute."""
    stage: ClassVar[str] = "multiply"
    """fetch, buffer, decode, multiply or output."""
    resource: ClassVar[str] = ""
    """What the unit's work is called where it bounds a run; where empty, its label."""
    resource_title: ClassVar[str] = ""
    """`Resource.title`; where empty, the same."""
    resource_allows: ClassVar[str] = ""
    """`Resource.allows`; where empty, the same behind an article."""
    works_with: ClassVar[type[Unit] | None] = None
    """The kind of unit in step with whose nodes it is clocked; None: its own nodes say when it works."""

    @classmethod
    def face(cls, name: str) -> Face:
        """How reports show the unit that a machine holds under ``name``."""
        label = cls.label or name.replace("_", " ").replace("sram", "SRAM")
        return Face(label=label, category=cls.category, stage=cls.stage)

    @classmethod
    def bounding(cls, name: str) -> Resource:
        """What bounds a run where the unit that a machine holds under ``name`` does."""
        word = cls.resource or cls.face(name).label
        return Resource(name=word, title=cls.resource_title or word, allows=cls.resource_allows or f"the {word}")

    def links(self, setting: Setting) -> Mapping[str, Port]:
        """Links by what they carry, which is what a program calls them."""
        return {}

    def involved(self, setting: Setting) -> bool:
        """Whether the storage format uses the unit; one that it does not is neither active nor counted."""
        return True

    def counts(self, flow: Flow, setting: Setting) -> Iterator[Count]:
        """Events of one stage, from what its firings let through; DRAM commands are counted where they are issued."""
        yield from ()

    def costs(self, parts: Parts, setting: Setting) -> UnitCosts | None:
        """Energies per event, leakage, area and clock; None for what is not on the chip."""
        return None
