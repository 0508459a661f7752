"""Decoding, broadcast, multiplication and results of one stage, as firings.

Every pass broadcasts the columns with a non-zero activation, in job order; whoever multiplies works through the weights
of each and hands its sums over at the end: every element by itself where entries have positions
(`dchw.lowering.elements`), all of them together where they have none (`dchw.lowering.lockstep`).
"""

from __future__ import annotations

from dchw.lowering.broadcast import broadcast, collect
from dchw.lowering.context import StageLowering
from dchw.lowering.elements import elements
from dchw.lowering.lockstep import lockstep
from dchw.lowering.tensors import Fills
from dchw.lowering.weights import Delivery, WeightStream
from dchw.program.builder import Indices


def lower_compute(
    at: StageLowering, weights: WeightStream, delivery: Delivery, fills: Fills, previous: int | None, held: int
) -> Indices:
    """Append a stage; the vector firings of its tiles.

    ``fills`` and ``previous`` are those of `broadcast`; ``held`` is `chunks_held` of the whole workload.
    """
    columns = broadcast(at, fills, previous)
    if at.work.form.positions:
        results, decoding = elements(at, weights, delivery, held, columns)
    else:
        together, decoding = lockstep(at, weights, delivery, held, columns)
        results = [together]
    done = collect(at, results, fills.behind)
    if decoding is not None:
        decoding.finish(int(done[-1]))
    return done
