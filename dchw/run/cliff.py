"""The cliff: DRAM traffic against the size of the weight SRAM, and what a frame moves of many worked one after another.

Weights that fit the SRAM are read once; those that do not are read in every inference. What fits depends on how they
are stored, so that a compressed network falls off the cliff at a smaller SRAM. DRAM bytes are those that mapping
settles (`dchw.run.estimate`), whole bursts; nothing is run or priced, so that no table bounds the sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dchw import showing
from dchw.arguments import MOST_BATCH, check_range, checked
from dchw.compression.compressed import CompressedNetwork
from dchw.formats import DEFAULT_FORMAT, NARROWEST_DENSE
from dchw.late import maker
from dchw.lowering.lower import check_moves
from dchw.machines.machine import Machine, machine_of
from dchw.mapping.arithmetic import Arithmetic
from dchw.mapping.resident_weights import residents, tenants
from dchw.mapping.workload import Workload, map_network
from dchw.quantities import DchwError, format_quantity
from dchw.run.estimate import dram_traffic

if TYPE_CHECKING:
    import pandas as pd

SMALLEST_BYTES, MOST_SIZES = 4096, 12
"""Of the sizes tried where none are given: the smallest, and how many powers of two."""
STORAGES = (NARROWEST_DENSE, DEFAULT_FORMAT)
"""What is compared where nothing is named: the narrowest dense format, and the one of a run that names none."""


@dataclass(frozen=True, kw_only=True)
class Cliff:
    """DRAM bytes of an inference, the first and every other, for sizes of the weight SRAM and storage formats."""

    network: str
    machine: str
    size_bytes: int
    """The machine's own weight SRAM."""
    frame: pd.DataFrame
    """A row for each format and size: ``storage``, ``weight_sram_bytes``, ``weight_bytes`` as they lie in the SRAM,
    ``resident_bytes`` that stay, ``layers_that_stay`` of ``layers`` whole, ``cold_dram_bytes`` and ``warm_dram_bytes``
    read and written."""
    refused: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """By format and size, why a run would be refused."""

    @property
    def edges(self) -> dict[str, int | None]:
        """By format, the smallest size tried from which on all weights stay; None where none does."""
        whole = self.frame[self.frame["resident_bytes"] == self.frame["weight_bytes"]]
        least = whole.groupby("storage")["weight_sram_bytes"].min()
        return {name: int(least[name]) if name in least else None for name in dict.fromkeys(self.frame["storage"])}

    @property
    def sentences(self) -> tuple[str, ...]:
        """Where each format's cliff is, and what stays in the machine's own SRAM."""
        return (*(self._edge(name, size) for name, size in self.edges.items()), *self._refusals)

    @property
    def _refusals(self) -> Iterator[str]:
        for storage in dict.fromkeys(storage for storage, _ in self.refused):
            sizes = [size for name, size in self.refused if name == storage]
            yield f"{storage} is refused with {', '.join(map(_size, sizes))}: {self.refused[storage, sizes[-1]]}."

    def _edge(self, storage: str, size: int | None) -> str:
        rows = self.frame[self.frame["storage"] == storage]
        cold, warm = int(rows["cold_dram_bytes"].min()), int(rows["warm_dram_bytes"].min())
        own = rows[rows["weight_sram_bytes"] == self.size_bytes]
        here = ""
        if len(own):
            row = own.iloc[0]
            here = (
                f"; in {self.machine}'s {_size(self.size_bytes)} {row['layers_that_stay']} of {row['layers']} layers "
                f"stay and another inference moves {row['warm_dram_bytes']:,} B"
            )
        if size is None:
            largest = _size(int(rows["weight_sram_bytes"].max()))
            return f"{storage}: not all weights stay in {largest}, the largest SRAM tried{here}."
        return (
            f"{storage}: all weights stay from {_size(size)} on; the first inference moves {cold:,} B there at least, "
            f"every other {warm:,} B{here}."
        )

    def plot(self) -> Any:
        """The cliff as a plotly figure; logarithmic axes, a line for each format."""
        return maker("Cliff.plot")(self)

    def write(self, path: str | Path) -> Path:
        """The cliff as a figure for a paper (``.svg``, ``.pdf``, ``.png``; needs matplotlib) or its rows (``.csv``)."""
        written: Path = maker("Cliff.write")(self, Path(path))
        return written

    def __repr__(self) -> str:
        edges = [f"{name} from {'more' if size is None else _size(size)}" for name, size in self.edges.items()]
        return showing.line(type(self).__name__, f"{self.network} on {self.machine}", *edges)

    def _repr_html_(self) -> str:
        return showing.table(repr(self), ("", ""), [("", sentence) for sentence in self.sentences])


@checked
def cliff(
    network: CompressedNetwork,
    on: Machine | str | Path,
    storages: Sequence[str] = STORAGES,
    *,
    weight_sram_bytes: Sequence[int] | None = None,
    batch: int = 1,
) -> Cliff:
    """DRAM bytes of an inference against the size of the weight SRAM, the first inference and every other.

    Parameters
    ----------
    network
        What `compress`, `load` or `dchw train` gave.
    on
        A `Machine`, the name of a preset, or the path of a machine's YAML file.
    storages
        Names of storage formats. Default: the dense one of the fewest bits, and the one of a run that names none.
    weight_sram_bytes
        Sizes to try, in bytes: whole words in every bank. Default: the machine's own, and up to twelve powers of two
        that end at the second that holds all weights of every format.
    batch
        Inputs worked at once; at least 1.

    Returns
    -------
    Cliff
        Its ``frame`` has a row for each format and size; ``plot()`` and ``write("cliff.svg")`` draw it.

    Raises
    ------
    DchwError
        For a name, file or value that is none, and where no size can be worked with.

    Examples
    --------
    >>> import numpy as np, dchw
    >>> net = dchw.Network.from_arrays("fc", weights={"fc": np.eye(64, dtype=np.float32)})
    >>> found = dchw.cliff(dchw.compress(net), "phone-lpddr5x", weight_sram_bytes=[2048, 8192])
    >>> found.edges["dense-int8"]
    8192
    """
    import pandas as pd

    check_range("batch", batch, 1, MOST_BATCH)
    for name, values in (("storages", storages), ("weight_sram_bytes", weight_sram_bytes)):
        if values is not None and not values:
            raise DchwError(f"cliff: {name}: expected at least one; got none; leave it out for the default")
    target = machine_of(on)
    sizes = weight_sram_bytes if weight_sram_bytes is not None else _sizes(network, target, storages, batch)
    rows: list[dict[str, Any]] = []
    refused: dict[tuple[str, int], str] = {}
    for storage in storages:
        for size in sizes:
            try:
                smaller = target.replace("weight_sram.size_bytes", f"{size} B")
                found = _cold_and_warm(_mapped(network, smaller, storage, batch))
            except DchwError as error:
                refused[storage, size] = str(error)
                continue
            rows.append({"storage": storage, "weight_sram_bytes": size, **found})
    if not rows:
        raise DchwError(f"cliff: no size of the weight SRAM can be worked with; {[*refused.values()][-1]}")
    return Cliff(
        network=network.name,
        machine=target.name,
        size_bytes=target.weight_sram.size_bytes,
        frame=pd.DataFrame(rows),
        refused=refused,
    )


def _sizes(network: CompressedNetwork, target: Machine, storages: Sequence[str], batch: int) -> list[int]:
    """Powers of two up to the first that holds all weights of every format, and the machine's own size."""
    most = 0
    for storage in storages:
        workload = _mapped(network, target, storage, batch)
        most = max(most, _cold_and_warm(workload)["weight_bytes"])
    last = max(2 * SMALLEST_BYTES, 2 << (most - 1).bit_length())  # the plateau beyond the edge
    powers = [last >> step for step in range(MOST_SIZES) if last >> step >= SMALLEST_BYTES]
    return sorted({*powers, target.weight_sram.size_bytes})


def over_frames(
    network: CompressedNetwork,
    on: Machine | str | Path,
    storages: Sequence[str] = STORAGES,
    *,
    frames: Sequence[int] = (1, 2, 10, 100),
    batch: int = 1,
) -> pd.DataFrame:
    """DRAM bytes of a frame where several are worked one after another: the first is cold, all others find weights.

    Parameters
    ----------
    network
        What `compress`, `load` or `dchw train` gave.
    on
        A `Machine`, the name of a preset, or the path of a machine's YAML file.
    storages
        Names of storage formats. Default: the dense one of the fewest bits, and the one of a run that names none.
    frames
        Frames from one cold start to the next; at least 1 each.
    batch
        Inputs of a frame, worked at once; at least 1.

    Returns
    -------
    pandas.DataFrame
        A row for each format and number of frames: ``frames``, ``weight_bytes``, ``resident_bytes``, ``layers``,
        ``layers_that_stay``, ``cold_dram_bytes`` and ``warm_dram_bytes`` as in `cliff`, and ``frame_dram_bytes``, the
        mean.

    Raises
    ------
    DchwError
        For a name, file or value that is none, for less than one frame, and for a layer the machine cannot work.
    """
    import pandas as pd

    if min(frames, default=1) < 1:
        raise DchwError(f"frames: expected at least 1; got {min(frames)}; raise it")
    target = machine_of(on)
    rows = []
    for storage in storages:
        known = _cold_and_warm(_mapped(network, target, storage, batch))
        for count in frames:
            mean = (known["cold_dram_bytes"] + (count - 1) * known["warm_dram_bytes"]) / count
            rows.append({"storage": storage, "frames": count, **known, "frame_dram_bytes": mean})
    return pd.DataFrame(rows)


def _mapped(network: CompressedNetwork, target: Machine, storage: str, batch: int) -> Workload:
    return map_network(network, target, storage, batch=batch, arithmetic=Arithmetic.NONE)


def _cold_and_warm(workload: Workload) -> dict[str, int]:
    """What stays of the weights, and the DRAM bytes of the first inference and of every other.

    Raises DchwError where a run would: for a weight SRAM that does not hold what must be there at once.
    """
    target = workload.machine
    for warm in (False, True):
        check_moves(workload, warm=warm)
    parts = tenants([stage.layer for stage in workload.stages], target, at_load=workload.decodes_at_load)
    kept = residents(parts, target.weight_sram.size_bytes)
    layers = {part.layer for part in parts}
    return {
        "weight_bytes": sum(part.size_bytes for part in parts),
        "resident_bytes": sum(part.size_bytes for part in parts if part.key in kept),
        "layers": len(layers),
        "layers_that_stay": len(layers - {part.layer for part in parts if part.key not in kept}),
        "cold_dram_bytes": sum(dram_traffic(workload)),
        "warm_dram_bytes": sum(dram_traffic(workload, warm=True)),
    }


def _size(size_bytes: int) -> str:
    return format_quantity(size_bytes, "size")
