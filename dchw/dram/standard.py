"""DRAM standards as data: organisation, clock, timings, command-to-command constraints, energy; every value sourced.

The shipped standards are ``dchw/dram/standards/*.yaml``; a user names one of them or hands over a YAML file of the
same form. A file that ``extends`` another (a shipped name, or a path from its own folder) says only what differs:
its keys are laid over the other's, key by key down the sections; ``null`` takes a key away, a list or a section of
another ``kind`` replaces the whole. Nothing in the controller knows a standard by name: it sees commands, roles and
numbers of clocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from dchw.config import Config, build, read_yaml
from dchw.dram.codes import CommandCodes
from dchw.dram.currents import AssumedEnergy, IdleCurrents, IdleStandIn, MeasuredCurrents, SignalEdges
from dchw.dram.expression import evaluate, names_in
from dchw.dram.options import Controller
from dchw.dram.sections import (
    AlternativeTimings,
    Behaviour,
    Clock,
    Commands,
    Constraints,
    Defaults,
    Organisation,
    Rule,
    TimingParameter,
)
from dchw.quantities import ConfigError, nearest


class Standard(Config):
    """One DRAM standard at one speed, as a file has it."""

    name: str
    """As users write it: ``LPDDR5-6400``."""
    sources: dict[str, str]
    """Where the file's figures come from, by a short name that other sections cite."""
    organisation: Organisation
    """What one channel consists of."""
    clock: Clock
    """The command clock and the data rate."""
    commands: Commands
    """Commands and the roles they play."""
    codes: CommandCodes | None = None
    """Bits of every command on the command and address lines, where they are public."""
    timings: dict[str, TimingParameter]
    """Timing parameters by name, in clocks."""
    alternatives: tuple[AlternativeTimings, ...] = ()
    """Other values that unverified timings may have."""
    behaviour: Behaviour
    """Expressions over timings for what is no rule between two commands."""
    constraints: Constraints
    """Rules between commands."""
    defaults: Defaults = Defaults()
    """Order of address bits and refresh where a run asks for none."""
    energy: Annotated[MeasuredCurrents | AssumedEnergy, Field(discriminator="kind")]
    """Currents, or an assumed energy per bit."""
    idle: Annotated[IdleCurrents | IdleStandIn, Field(discriminator="kind")] = IdleStandIn()
    """Currents between frames, or what stands in for them."""

    def __hash__(self) -> int:
        return hash(self.name)  # what is worked out of a standard is kept by it; equality compares every value

    @property
    def clock_hz(self) -> float:
        """Clocks per second."""
        return 1e15 / self.clock.period

    @property
    def period_ns(self) -> float:
        """Nanoseconds of one clock."""
        return self.clock.period / 1e6

    @property
    def peak_bytes_per_second(self) -> float:
        """Payload bandwidth of one channel: one burst per ``burst`` clocks."""
        return self.organisation.burst_size / self.cycles(self.behaviour.burst) * self.clock_hz

    @property
    def unverified(self) -> tuple[str, ...]:
        """Timings that were not compared with the standard's text."""
        return tuple(name for name, timing in self.timings.items() if not timing.verified)

    @property
    def unverified_rules(self) -> tuple[Rule, ...]:
        """Rules that stand in no table of the standard and bind this organisation."""
        several = self.organisation.ranks > 1
        return tuple(rule for rule in self.constraints.rules if not rule.verified and (several or not rule.sibling))

    @property
    def counted_codes(self) -> CommandCodes | None:
        """The command codes whose edges the interface energy counts; None where it does not."""
        by_edges = isinstance(self.energy, MeasuredCurrents) and isinstance(self.energy.io, SignalEdges)
        return self.codes if by_edges else None

    def settled(self, options: Controller) -> Controller:
        """A controller that leaves nothing to the standard: its refresh is the one asked for, or the default."""
        return options if options.refresh is not None else options.replace("refresh", self.defaults.refresh)

    def cycles(self, expression: str) -> int:
        """The value of an expression over this standard's timings."""
        wanted = names_in(expression) & self.timings.keys()
        return evaluate(expression, {name: self.timings[name].cycles for name in wanted})

    def role_cycles(self, role: str) -> int:
        """The value of a ``behaviour`` expression; 0 where the standard has none."""
        text = getattr(self.behaviour, role)
        return 0 if text is None else self.cycles(text)

    def adjusted_latency(self, rule: Rule, preceding: str, following: str) -> int:
        """Clocks between the first clocks of two commands that a rule asks for."""
        return self.cycles(rule.latency) + self.commands.clocks[preceding] - self.commands.clocks[following]

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        self._check_names()
        self._check_pairs()
        return self

    def _check_names(self) -> None:
        for number, rule in enumerate(self.constraints.rules):
            for name in (*rule.preceding, *rule.following):
                if name not in self.commands.clocks:
                    raise ValueError(
                        f"constraints.rules.{number}: no command {name!r}; {nearest(name, self.commands.clocks)}"
                    )
            self._check_expression(f"constraints.rules.{number}.latency", rule.latency)
        for number, alternative in enumerate(self.alternatives):
            for name in sorted(alternative.timings.keys() - set(self.unverified)):
                raise ValueError(
                    f"alternatives.{number}.timings: expected timings with verified: false; got {name!r}; "
                    f"{nearest(name, self.unverified)}"
                )
        if self.defaults.refresh == "refpb" and self.commands.refresh_bank is None:
            raise ValueError("defaults.refresh and commands.refresh_bank: no command refreshes one bank; use 'refab'")
        for role, text in self.behaviour.dump().items():
            if text is not None:
                self._check_expression(f"behaviour.{role}", text)
        used = {
            self.organisation.source,
            self.clock.source,
            self.commands.source,
            self.constraints.source,
            self.energy.source,
        }
        used |= {part.source for part in (self.codes, self.idle) if part is not None and hasattr(part, "source")}
        used |= {timing.source for timing in self.timings.values()}
        used |= {rule.source for rule in self.constraints.rules if rule.source is not None}
        used |= {alternative.source for alternative in self.alternatives}
        used |= {self.defaults.source} if self.defaults.source is not None else set()
        for name in sorted(used - set(self.sources)):
            raise ValueError(f"sources: no entry {name!r}, which a value cites; {nearest(name, self.sources)}")

    def _check_expression(self, where: str, text: str) -> None:
        for name in sorted(names_in(text) - set(self.timings)):
            raise ValueError(f"{where}: no timing {name!r}; {nearest(name, self.timings)}")
        try:
            self.cycles(text)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None

    def _check_pairs(self) -> None:
        have, behave = self.commands, self.behaviour
        together = (
            ("commands.activate_second", have.activate_second, "behaviour.activate_window", behave.activate_window),
            ("commands.sync_read", have.sync_read, "behaviour.sync_postamble", behave.sync_postamble),
            (
                "commands.refresh_bank",
                have.refresh_bank,
                "behaviour.bank_refresh_interval",
                behave.bank_refresh_interval,
            ),
            ("commands.refresh_bank", have.refresh_bank, "behaviour.bank_refresh_cycle", behave.bank_refresh_cycle),
        )
        for one, first, other, second in together:
            if (first is None) != (second is None):
                raise ValueError(f"{one} and {other}: expected both or neither")
        pairs = (("refresh_cycle", "refresh_interval"), ("bank_refresh_cycle", "bank_refresh_interval"))
        if have.refreshed_banks > 1:
            if self.organisation.banks < have.refreshed_banks:
                raise ValueError(
                    "commands.refreshed_banks and organisation: two banks cannot be refreshed where a rank has one"
                )
            for number, rule in enumerate(self.constraints.rules):
                if have.refresh_bank in rule.preceding and (rule.level == "bank_group" or rule.window > 1):
                    raise ValueError(
                        f"constraints.rules.{number} and commands.refreshed_banks: a refresh of two banks binds banks, "
                        "ranks or channels, each by its last one"
                    )
        for short, long in pairs:
            if getattr(behave, short) is not None and self.role_cycles(short) >= self.role_cycles(long):
                raise ValueError(
                    f"behaviour.{short} and behaviour.{long}: a refresh of {self.role_cycles(short)} clocks every "
                    f"{self.role_cycles(long)} leaves no time for data"
                )
        self._check_codes()
        burst = self.cycles(behave.burst)
        if burst * self.clock.beats_per_clock != self.organisation.burst_beats:
            raise ValueError(
                f"behaviour.burst and organisation.burst_beats: {burst} clocks of {self.clock.beats_per_clock} beats "
                f"are not {self.organisation.burst_beats} beats"
            )
        if burst > self.cycles(behave.read_latency):
            raise ValueError(
                f"behaviour.burst and behaviour.read_latency: the last beat cannot come "
                f"{self.cycles(behave.read_latency)} clocks after the command when the burst lasts {burst}"
            )
        if behave.activate_window is not None and self.role_cycles("activate_window") < have.clocks[have.activate]:
            raise ValueError(
                "behaviour.activate_window and commands.clocks: the second part of an activation cannot follow in time"
            )

    def _check_codes(self) -> None:
        if self.codes is None:
            return
        clocks, words = self.commands.clocks, self.codes.words
        for name in sorted(clocks.keys() ^ words.keys()):
            raise ValueError(f"codes.words and commands.clocks: expected the same commands; {name!r} is in one only")
        for name, held in clocks.items():
            beats, expected = self.codes.code(name).beats, held * self.codes.beats_per_clock
            if beats != expected:
                raise ValueError(
                    f"codes.words.{name} and commands.clocks.{name}: {beats} beats, {self.codes.beats_per_clock} per "
                    f"clock, are not {held} clocks"
                )
        have, org, each = self.commands, self.organisation, self.codes.columns_per_burst
        columns = {f"C{bit}" for bit in range(each.bit_length() - 1, (org.columns * each).bit_length() - 1)}
        place = {f"BA{bit}" for bit in range((org.banks_per_group - 1).bit_length())}
        place |= {f"BG{bit}" for bit in range((org.bank_groups - 1).bit_length())}
        rows = {f"R{bit}" for bit in range((org.rows - 1).bit_length())}
        for names, needed in (
            ((have.activate, have.activate_second), rows | place),
            ((have.read,), columns | place),
            ((have.write,), columns | place),
        ):
            carried = {token for name in names if name is not None for token in words[name].split()}
            for bit in sorted(needed - carried):
                raise ValueError(f"codes.words.{names[0]} and organisation: no line carries {bit}")


@cache
def _shipped() -> Mapping[str, Path]:
    folder = files("dchw.dram").joinpath("standards")
    return {
        entry.name.removesuffix(".yaml").upper(): Path(str(entry))
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    }


def standard_names() -> tuple[str, ...]:
    """The standards that ship with the package."""
    return tuple(sorted(_shipped()))


@cache
def _load_shipped(path: Path) -> Standard:
    return _load(path)


def _load(path: Path) -> Standard:
    data, lines = _read(path)
    return build(Standard, data, where=str(path), lines=lines)


def _read(path: Path, above: tuple[Path, ...] = ()) -> tuple[dict[str, Any], dict[tuple[Any, ...], int]]:
    """The keys of a file laid over those of the standard it extends, and the lines of its own keys."""
    data, lines = read_yaml(path)
    base = data.pop("extends", None)
    if base is None:
        return data, lines
    name = str(base)
    other = _shipped().get(name.upper(), path.parent / name)
    if other.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{path}: extends: expected a shipped standard or a YAML file; {nearest(name, _shipped())}")
    above = (*above, path.resolve())
    if other.resolve() in above:
        raise ConfigError(f"{path}: extends: {name} is extended by this very file; break the circle")
    return _laid_over(_read(other, above)[0], data), lines


def _laid_over(under: Any, over: Any) -> Any:
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    if "kind" in over and over["kind"] != under.get("kind"):
        return over
    merged = dict(under)
    for key, value in over.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _laid_over(merged.get(key), value)
    return merged


def standard(source: str | Path | Standard) -> Standard:
    """A standard by its name, or from a YAML file (a path with a suffix), or as given.

    Raises ConfigError naming the nearest shipped standard, or the fields of the file that do not fit.
    """
    if isinstance(source, Standard):
        return source
    shipped = _shipped()
    if str(source).upper() in shipped:
        return _load_shipped(shipped[str(source).upper()])
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        return _load(path)
    raise ConfigError(f"standard {str(source)!r}: not known and not a YAML file; {nearest(str(source), shipped)}")
