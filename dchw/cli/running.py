"""What the verbs that run a machine share: which network, which machine, and how a comparison is printed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar

import click
from click.core import ParameterSource

from dchw.arguments import MOST_BATCH
from dchw.cli.output import print_table, progress

if TYPE_CHECKING:
    import pandas as pd

    from dchw.compression.compressed import CompressedNetwork
    from dchw.machines.machine import Machine
    from dchw.run.sim_result import SimResult
    from dchw.run.simulation import Engine

_COLUMNS = {
    "storage": "storage",
    "multiplies": "multiplies",
    "file_bytes": "file B",
    "packed_bytes": "packed B",
    "dram_read_bytes": "DRAM read B",
    "bandwidth_gbps": "GB/s",
    "cycles": "cycles",
    "latency_us": "latency us",
    "inferences_per_s": "inf/s",
    "inferences_per_j": "inf/J",
    "bound_by": "bound by",
    "energy_dram_nj": "DRAM nJ",
    "energy_sram_nj": "SRAM nJ",
    "energy_decode_nj": "decode nJ",
    "energy_compute_nj": "compute nJ",
    "energy_clock_nj": "clock nJ",
    "energy_leakage_nj": "leakage nJ",
    "energy_nj": "total nJ",
    "energy_one_chip_nj": "one chip nJ",
    "traffic_ratio": "traffic x",
    "time_ratio": "time x",
    "energy_ratio": "energy x",
    "energy_per_frame_nj": "frame nJ",
    "error_pct": "error %",
}


F = TypeVar("F", bound=Callable[..., None])


SETTING_HELP = "Change a field of the machine, such as huffman.units=32; repeatable."


def default_storage() -> str:
    """The storage format of a verb that is given none."""
    from dchw.formats import DEFAULT_FORMAT

    return DEFAULT_FORMAT


def run_options(command: F) -> F:
    """What a network runs on and how: machine, engine, batch, warm weights, frame rate, and a release's network.

    Gives ``machine_name`` and ``settings``, from which ``chosen_machine`` makes the machine.
    """
    machine_name = click.option(
        "--machine", "machine_name", default="phone-lpddr5x", show_default=True, help="Preset or YAML file."
    )
    return machine_name(setting_option(other_run_options(command)))


def machines_option(command: F) -> F:
    """Several machines; gives ``machine_names``."""
    return click.option(
        "--machine",
        "machine_names",
        multiple=True,
        default=("phone-lpddr5x",),
        show_default=True,
        help="Preset or YAML file; repeatable.",
    )(command)


def setting_option(command: F) -> F:
    """Changes of every machine, one value each; gives ``settings``."""
    return click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help=SETTING_HELP)(command)


def many_run_options(command: F) -> F:
    """As ``run_options``, with several machines and lists of values; gives ``machine_names`` and ``settings``."""
    settings = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE[,VALUE...]",
        help="Change a field of the machine; several values are all run: huffman.units=4,8,16. Repeatable.",
    )
    return machines_option(settings(other_run_options(command)))


def chosen_machine(name: str, settings: Sequence[str]) -> Machine:
    """The named machine with the fields that ``--set`` changes, one value each."""
    from dchw.quantities import DchwError
    from dchw.studies.variants import parse_settings, variants

    choices = parse_settings(settings)
    for key, values in choices.items():
        if len(values) > 1:
            raise DchwError(
                f"--set {key}: expected one value; got {len(values)}; 'dchw compare' and 'dchw sweep' run lists"
            )
    return variants(name, choices)[0].machine


def baseline_option(command: F) -> F:
    """Which row ratios and verdict are taken against; gives ``baseline``."""
    return click.option(
        "--baseline", metavar="NAME", help="Storage format to compare with (default: the strongest dense one)."
    )(command)


def other_run_options(command: F) -> F:
    """Engine, batch, warm weights, frame rate, and a release's network."""
    states = click.Choice(["self-refresh", "power-down"])
    engines = click.Choice(["fast", "reference"])
    for option in reversed(
        [
            click.option("--engine", type=engines, default="fast", show_default=True),
            click.option("--batch", type=click.IntRange(min=1, max=MOST_BATCH), default=1, show_default=True),
            click.option("--warm", is_flag=True, help="Weights that fit are in the weight SRAM already."),
            click.option(
                "--fps",
                type=click.FloatRange(1e-3, 1e9),
                help="Also the energy of a frame at so many frames per second.",
            ),
            click.option(
                "--dram-idle",
                type=states,
                default="self-refresh",
                show_default=True,
                help="What the DRAM does between frames.",
            ),
            click.option("--prototxt", type=click.Path(path_type=Path), help="Caffe network of a released .net file."),
        ]
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class RunNotes:
    """What a reader must know of a run, without all that the run holds."""

    how: str
    residency: str
    scope: str
    notes: tuple[str, ...]
    brief_notes: tuple[str, ...]
    """As a terminal has room for them."""
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, result: SimResult) -> RunNotes:
        """Those of one run."""
        workload = result.workload
        return cls(
            how=f"One inference of {workload.network} at batch {workload.batch}, "
            f"{'warm' if result.warm else 'cold'} weights, {workload.origin}; engine {result.engine}.",
            residency=f"{workload.storage}: {result.residency}",
            scope=f"DRAM energy: {result.costs.scope}.",
            notes=result.notes,
            brief_notes=result.brief_notes,
            warnings=tuple(result.costs.warnings),
        )


@dataclass(frozen=True)
class Compared:
    """A network, run in several storage formats on a machine."""

    network: CompressedNetwork
    machine: Machine
    results: dict[str, SimResult]
    """By storage format, in the order asked for; none where they are not kept."""
    last: RunNotes
    frame: pd.DataFrame


class How(TypedDict):
    """How the runs of a comparison are made."""

    engine: Engine
    batch: int
    warm: bool
    baseline: str | None


def run_comparison(
    network: CompressedNetwork, target: Machine, storages: Sequence[str], how: How, *, keep: bool = True
) -> Compared:
    """Runs ``network`` in the named storage formats, all where none is named, with a progress bar.

    ``keep``: hold every format's result.
    """
    chosen = chosen_formats(storages)
    with progress() as bar:
        task = bar.add_task("simulating", total=format_count(chosen))
        return compared(network, target, chosen, how, lambda: bar.advance(task), keep=keep)


def chosen_formats(storages: Sequence[str]) -> list[str] | None:
    """Storage formats by their own names; None, which is all, where none is named."""
    from dchw.formats import storage_format

    return [storage_format(name).name for name in storages] or None


def format_count(chosen: Sequence[str] | None) -> int:
    """How many runs a comparison in these formats makes."""
    from dchw.formats import STORAGE_FORMATS

    return len(STORAGE_FORMATS if chosen is None else chosen)


def compared(
    network: CompressedNetwork,
    target: Machine,
    chosen: Sequence[str] | None,
    how: How,
    on_row: Callable[[], object],
    *,
    keep: bool = True,
) -> Compared:
    """A network in storage formats (None: all) on a machine; ``on_row`` is called after each run."""
    import dchw

    results: dict[str, SimResult] = {}
    notes: list[RunNotes] = []

    def finished(name: str, result: SimResult) -> None:
        if keep:
            results[name] = result
        notes[:] = [RunNotes.of(result)]
        on_row()

    frame = dchw.compare(network, target, storages=chosen, on_result=finished, **how)
    return Compared(network=network, machine=target, results=results, last=notes[0], frame=frame)


def typed_command(context: click.Context) -> str:
    """The command line that gave a verb its parameters, quoted for a shell."""
    words = ["dchw", str(context.info_name)]
    for parameter in context.command.params:
        assert parameter.name is not None
        if context.get_parameter_source(parameter.name) is not ParameterSource.COMMANDLINE:
            continue
        if parameter.name not in context.params:  # how much is printed changes no result
            continue
        value = context.params[parameter.name]
        if isinstance(parameter, click.Argument):
            words += map(str, value if parameter.nargs != 1 else (value,))
        elif getattr(parameter, "is_flag", False):
            words.append(parameter.opts[0])
        else:
            for one in value if parameter.multiple else (value,):
                words += [parameter.opts[0], str(one)]
    return shlex.join(words)


def load_compressed(path: str, prototxt: Path | None = None) -> CompressedNetwork:
    """A compressed network from a .dchw file or a published release; anything else is an error that says what to do."""
    import dchw
    from dchw.compression.compressed import CompressedNetwork
    from dchw.quantities import DchwError

    network = dchw.load_network(path, **({} if prototxt is None else {"prototxt": prototxt}))
    if not isinstance(network, CompressedNetwork):
        notes = "".join(f" ({note})" for note in network.notes if "zeros" in note)
        raise DchwError(
            f"{path}: expected a compressed network; got dense weights; run 'dchw compress' on it first{notes}"
        )
    return network


def print_comparison(title: str, frame: pd.DataFrame, notes: list[str]) -> None:
    """A comparison as a table for people, opened by its verdict."""
    shown = {name: label for name, label in _COLUMNS.items() if name in frame.columns}
    opening = frame.attrs.get("verdict", ())
    print_table(title, frame[list(shown)].rename(columns=shown), notes, opening=opening)


def comparison_notes(network: CompressedNetwork, frame: pd.DataFrame, last: RunNotes, *, brief: bool) -> list[str]:
    """What a reader must know to trust a comparison; ``brief`` for a terminal."""
    notes = [
        last.how,
        f"x: {frame.attrs.get('baseline', frame['storage'].iloc[0])} over the row, above 1 the row is better. Energies "
        "are of a chip that holds what the row needs; beside the total, of one chip for all formats.",
        last.residency,
        last.scope,
    ]
    notes += [f"Left out: {error}" for error in frame.attrs.get("left_out", {}).values()]
    notes += [f"Note: {note}" for note in (*(last.brief_notes if brief else last.notes), *network.graph.notes)]
    notes += [f"Warning: {warning}" for warning in last.warnings]
    return list(dict.fromkeys(notes))
