"""A machine: one hardware configuration, typed, frozen and checked as a whole; presets are YAML files beside this one.

LPDDR channels -> controller -> read DMA -> weight / activation SRAM -> decode units -> codebook -> PE array
    -> vector unit -> activation SRAM -> write DMA
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from pydantic import Field, model_validator

from dchw import showing
from dchw.arguments import checked
from dchw.config import Config, Frequency, load_yaml
from dchw.formats import Need, StorageFormat
from dchw.formats.packing.run_layout import Pointers
from dchw.machines.loop_order import LoopOrder
from dchw.machines.silicon import NumberFormats, Silicon
from dchw.machines.units.codebook import CodebookLookup
from dchw.machines.units.dma import Dma
from dchw.machines.units.dram import Dram
from dchw.machines.units.huffman_decoder import ENTRY_BITS, HuffmanDecoder
from dchw.machines.units.pe_array import PeArray
from dchw.machines.units.sram import ActivationSram, WeightSram
from dchw.machines.units.unit import Face, Resource, Setting, Unit
from dchw.machines.units.vector import Vector
from dchw.quantities import ConfigError, forgiven, format_quantity, nearest


class Machine(Config):
    """Everything about the hardware. ``replace("huffman.units", 16)`` gives a checked copy for studies."""

    name: str
    """What reports call the machine."""
    description: str
    """One line on what it stands for."""
    source: str
    """Where the parameters come from."""
    clock_hz: Frequency = Field(alias="clock", le=10**12)
    """Clock of everything on the chip, written with its unit (``1 GHz``)."""
    silicon: Silicon
    """Process and tables that energies, areas and delays come from."""
    formats: NumberFormats = NumberFormats()
    """What elements multiply, unless a storage format asks for other arithmetic that they have as well
    (``pe_array.also_multiplies``)."""
    pointers: Pointers = Pointers.MADE
    """Whether the number of entries of every column lies in DRAM beside coded entries (``stored``, as in EIE) or decode
    units make column starts as they decode (``made``)."""
    dram: Dram
    """Main memory: its standard, channels and controller."""
    dma: Dma
    """Engine that moves data between DRAM and the SRAMs."""
    weight_sram: WeightSram
    """Buffer of weights, coded or not."""
    activation_sram: ActivationSram
    """Buffer of activations."""
    huffman: HuffmanDecoder
    """Huffman decode units."""
    codebook: CodebookLookup
    """Tables from a code to its shared value."""
    pe_array: PeArray
    """Array of processing elements that multiply and accumulate."""
    vector: Vector
    """Output path: biases, activations, pooling and what else is no product with weights."""
    mapping: tuple[LoopOrder, ...] = ()
    """Orders of loops that are not to be searched; of several for a layer the first counts."""

    @model_validator(mode="after")
    def _fits_together(self) -> Machine:
        units, elements = self.huffman.units, self.pe_array.elements
        if units % elements and elements % units:
            raise ValueError(
                f"expected huffman.units and pe_array.elements to divide one another; got {units} and {elements}; "
                "change one of them"
            )
        if self.dma.request_bytes % self.dram.burst_bytes:
            raise ValueError(
                f"expected dma.request_bytes to be whole DRAM bursts of {self.dram.burst_bytes} B; got "
                f"{self.dma.request_bytes} B; change it"
            )
        if self.codebook.shared_by > elements:
            raise ValueError(
                f"expected codebook.shared_by to be at most pe_array.elements; got {self.codebook.shared_by} for "
                f"{elements}; lower it"
            )
        return self

    @property
    def units(self) -> Mapping[str, Unit]:
        """The units by name, from memory to results as the fields stand; a field's name is its unit's name."""
        return MappingProxyType({name: getattr(self, name) for name in _unit_kinds(type(self))})

    @property
    def multiplies(self) -> tuple[NumberFormats, ...]:
        """All arithmetic that the elements have, the widest first."""
        return tuple(sorted({self.formats, *self.pe_array.also_multiplies}, key=lambda one: (-one.bits, str(one))))

    def working(self, form: StorageFormat) -> Machine:
        """This machine with the arithmetic of a storage format as its ``formats``: integers are multiplied as bytes
        where the elements can, everything else as the machine does it. Idempotent."""
        if not form.integers or self.formats.is_int8:
            return self
        chosen = next((one for one in self.multiplies if one.is_int8), None)
        if chosen is None:
            return self
        array = self.pe_array.model_copy(
            update={"also_multiplies": tuple(one for one in self.multiplies if one != chosen)}
        )
        return self.model_copy(update={"formats": chosen, "pe_array": array})

    def whole_setting(self) -> Setting:
        """What units know of a machine of which every part is built, whatever is worked on it."""
        widest, *others = self.multiplies
        whole = self.setting(frozenset(Need), positions=True)
        return replace(whole, formats=widest, also_built=tuple(others))

    def setting(self, needs: frozenset[Need], positions: bool) -> Setting:
        """What units know of the machine around them while a storage format of such needs is worked, on a chip that
        holds what it needs and no more."""
        return Setting(
            formats=self.formats,
            also_built=(),
            elements=self.pe_array.elements,
            lanes=self.pe_array.lanes,
            weight_word_bits=self.weight_sram.word_bits,
            weight_banks=self.weight_sram.banks,
            activation_word_bits=self.activation_sram.word_bits,
            decode_units=self.huffman.units,
            decode_at_use=self.huffman.at_use,
            entry_bits=ENTRY_BITS,
            needs=needs,
            positions=positions,
        )

    @classmethod
    def faces(cls) -> Mapping[str, Face]:
        """How reports show the units, in the same order."""
        return {name: kind.face(name) for name, kind in _unit_kinds(cls).items()}

    def name_of(self, unit: Unit) -> str:
        """The name of one of this machine's units: the field that holds it."""
        for name in _unit_kinds(type(self)):
            if getattr(self, name) is unit:
                return name
        raise ConfigError(
            f"machine {self.name}: expected one of its own units; got a {type(unit).__name__}; use its own"
        )

    def resource(self, unit: Unit) -> Resource:
        """What bounds a run where one of this machine's units does."""
        return unit.bounding(self.name_of(unit))

    def worker(self, name: str) -> str:
        """The unit whose nodes do the work of one: itself, or the one in step with which it works."""
        partner = self.units[name].works_with
        return name if partner is None else next(n for n, unit in self.units.items() if isinstance(unit, partner))

    @property
    def reader_supply(self) -> tuple[int, int]:
        """Coded bits each decode unit gets from the weight SRAM, as (bits, every so many cycles)."""
        return self.weight_sram.reader_bits_per_cycle(self.huffman.units)

    def __repr__(self) -> str:
        memory = f"{self.dram.standard or 'fixed memory'} x{self.dram.channels}"
        return showing.line(
            "Machine",
            self.name,
            f"{self.pe_array.macs_per_cycle:,} MACs a cycle at {format_quantity(self.clock_hz, 'frequency')}",
            memory,
            f"{self.huffman.units} decode units",
            f"{self.silicon.node_nm} nm",
        )

    def _repr_html_(self) -> str:
        rows = [
            (
                name.replace("_", " "),
                "; ".join(f"{key} {value}" for key, value in unit.dump().items() if value is not None),
            )
            for name, unit in self.units.items()
        ]
        return showing.table(f"Machine {self.name}: {self.description}", ("unit", "parameters"), rows)


@cache
def _unit_kinds(kind: type[Machine]) -> Mapping[str, type[Unit]]:
    """The fields of a machine that hold units, with the kind of each."""
    kinds = {name: field.annotation for name, field in kind.model_fields.items()}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Unit)}


def preset_names() -> list[str]:
    """Names of the machines that ship with the package."""
    folder = files("dchw.machines").joinpath("presets")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


@checked
def machine(name_or_path: str | Path) -> Machine:
    """A machine by preset name or from a YAML file.

    Parameters
    ----------
    name_or_path
        Name of a preset (``dchw machines`` lists them) or path of a YAML file with the same keys.

    Returns
    -------
    Machine
        Frozen and checked; ``replace("huffman.units", 32)`` gives a checked copy.

    Raises
    ------
    ConfigError
        Naming every fault at once, with line and nearest legal key.

    Examples
    --------
    >>> import dchw
    >>> phone = dchw.machine("phone-lpddr5x")
    >>> phone.huffman.units, phone.replace("huffman.units", 64).huffman.units
    (32, 64)
    """
    text = str(name_or_path)
    preset = None if Path(text).exists() else forgiven(text, preset_names())
    if preset is not None or text in preset_names():
        path = Path(str(files("dchw.machines").joinpath("presets", f"{preset or text}.yaml")))
        return _preset(path, path.read_bytes())
    if not Path(text).exists():
        hint = nearest(text, preset_names())
        raise ConfigError(f"machine {text!r}: neither a preset nor a file that exists; {hint}")
    return load_yaml(Machine, Path(text))


def machine_of(on: Machine | str | Path) -> Machine:
    """The machine that a call is about: one at hand, or what `machine` makes of a name or path."""
    return on if isinstance(on, Machine) else machine(on)


@lru_cache(maxsize=64)
def _preset(path: Path, content: bytes) -> Machine:
    """A preset, parsed once for one content of its file; machines are frozen and may be shared."""
    return load_yaml(Machine, path)
