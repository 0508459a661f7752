"""Does a configuration say what is wrong with it, where, and what to write instead?"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dchw
from dchw.config import dump_yaml, load_yaml
from dchw.machines.machine import Machine, preset_names
from dchw.quantities import ConfigError, cycles_of, format_quantity, parse_quantity

PRESET = Path(dchw.__file__).parent / "machines" / "presets" / "phone-lpddr5x.yaml"


def edited(folder: Path, old: str, new: str) -> Path:
    text = PRESET.read_text(encoding="utf-8")
    assert old in text
    path = folder / "machine.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def complaint(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        dchw.machine(path)
    return str(caught.value)


def line_of(path: Path, text: str) -> int:
    return next(n for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if text in line)


def test_a_misspelt_key_names_path_line_and_nearest_key(tmp_path: Path) -> None:
    path = edited(tmp_path, "  banks: 16", "  bank: 16")
    assert complaint(path) == (
        f"{path}, line {line_of(path, '  bank: 16')}: weight_sram.bank: unknown key; did you mean 'banks'?"
    )


def test_a_negative_size(tmp_path: Path) -> None:
    path = edited(tmp_path, "size_bytes: 512 KiB", "size_bytes: -512 KiB")
    assert complaint(path) == (
        f"{path}, line {line_of(path, '-512')}: weight_sram.size_bytes: input should be greater than 0; got '-512 KiB'"
    )


def test_a_missing_unit(tmp_path: Path) -> None:
    path = edited(tmp_path, "clock: 1 GHz", "clock: 1000000000")
    assert complaint(path) == (
        f"{path}, line {line_of(path, '1000000000')}: clock: expected text with a unit, such as '1 GHz'; got 1000000000"
    )


def test_a_unit_of_another_dimension(tmp_path: Path) -> None:
    path = edited(tmp_path, "clock: 1 GHz", "clock: 1 KiB")
    assert "clock: expected a frequency with its unit, such as '1 GHz'; got unit 'KiB'" in complaint(path)


def test_all_faults_at_once(tmp_path: Path) -> None:
    path = edited(tmp_path, "  banks: 16", "  bank: 16")
    path.write_text(path.read_text(encoding="utf-8").replace("  lanes: 16", "  lanes: zero"), encoding="utf-8")
    text = complaint(path)
    assert "weight_sram.bank: unknown key" in text
    assert "pe_array.lanes: input should be a valid integer; got 'zero'" in text


def test_a_missing_section(tmp_path: Path) -> None:
    path = edited(tmp_path, "vector:\n  values_per_cycle: 16\n", "")
    assert complaint(path) == f"{path}: vector: missing; add it"


def test_a_duplicate_key(tmp_path: Path) -> None:
    path = edited(tmp_path, "clock: 1 GHz", "clock: 1 GHz\nclock: 2 GHz")
    assert "not valid YAML" in complaint(path)
    assert "duplicate key" in complaint(path)


def test_fields_that_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match=r"huffman.units and pe_array.elements to divide one another; got 24 and 64"):
        dchw.machine("phone-lpddr5x").replace("huffman.units", 24)


def test_replace_names_the_nearest_path() -> None:
    machine = dchw.machine("phone-lpddr5x")
    with pytest.raises(ConfigError, match=r"hufman: no such section; did you mean 'huffman'"):
        machine.replace("hufman.units", 8)
    with pytest.raises(ConfigError, match=r"huffman.unit: no such key; did you mean 'units'"):
        machine.replace("huffman.unit", 8)
    assert machine.replace("huffman.units", 8).huffman.units == 8


def test_an_unknown_machine() -> None:
    with pytest.raises(ConfigError, match=r"neither a preset nor a file that exists; did you mean 'phone-lpddr5x'"):
        dchw.machine("phone-lpddr5")


@pytest.mark.parametrize("name", preset_names())
def test_presets_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    machine = dchw.machine(name)
    assert machine.name == name
    assert machine.source
    dump_yaml(machine, tmp_path / "copy.yaml")
    assert load_yaml(Machine, tmp_path / "copy.yaml") == machine


@given(st.integers(1, 10**15), st.sampled_from(["frequency", "size", "time", "bandwidth"]))
def test_quantities_survive_a_round_trip(value: int, dimension: str) -> None:
    assert parse_quantity(format_quantity(value, dimension), dimension) == value


def test_binary_and_decimal_prefixes_differ() -> None:
    assert parse_quantity("64 KiB", "size") == 65_536
    assert parse_quantity("64 kB", "size") == 64_000
    assert parse_quantity("8533 MT/s", "transfer rate") == 8_533_000_000


def test_nanoseconds_become_cycles_by_rounding_up() -> None:
    # 18 ns at 1,066.67 MHz are 19.2 cycles
    assert cycles_of(18_000, 1_066_666_667) == 20
    assert cycles_of(10_000, 800_000_000) == 8
    assert cycles_of(Fraction(1, 3), 10**12) == 1


HOSTILE = {
    "exponent": ("clock: 1 GHz", "clock: 1e999999999 GHz"),
    "negative exponent": ("clock: 1 GHz", "clock: 1e-999999999 GHz"),
    "depth": ("clock: 1 GHz", "clock: " + "[" * 300 + "]" * 300),
    "digits": ("elements: 64", "elements: " + "9" * 5000),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_absurd_values_end_at_once_in_a_sentence(case: str, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(PRESET.read_text(encoding="utf-8").replace(*HOSTILE[case]), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"m\.yaml"):
        dchw.machine(path)


def test_aliases_that_multiply_are_refused(tmp_path: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [" + ", ".join([f"*{before}"] * 10) + "]")
    path = tmp_path / "m.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"aliases stand for more than 100,000 values"):
        dchw.machine(path)
