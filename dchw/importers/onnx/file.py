"""Networks from ONNX files: weights and graph, by the package ``onnx`` alone, no runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dchw.extras import extras_named
from dchw.graph.network import Network
from dchw.importers.fold import fold_batch_normalisation
from dchw.importers.onnx import (  # noqa: F401  (they register themselves)
    arithmetic_rules,
    layer_rules,
    quantised_rules,
    recurrent_rules,
    shape_rules,
    window_rules,
)
from dchw.importers.onnx.inputs import InputShapes, Sizes, common_batch, graph_inputs, resolved, value_of
from dchw.importers.onnx.registry import Shape
from dchw.importers.onnx.walk import OnnxWalk
from dchw.quantities import DchwError, FileFormatError


def network_from_onnx(
    path: str | Path, *, name: str | None = None, input_shape: InputShapes = None, fold_normalisation: bool = True
) -> Network:
    """The network of an ONNX file (operator set 9 or later).

    Parameters
    ----------
    path
        The file. Layers bear their weight's name without ``.weight``, or the node's name where the weight has none of
        its own.
    name
        Of the network; by default the graph's.
    input_shape
        Sizes of inputs that the file leaves open, the batch axis included: ``{"x": (1, 3, 224, 224)}``, or the sizes
        alone where one input has any open. Of a scalar input, its value: ``{"sr": 16000}``; it is fixed in the network
        then. The first axis of an input is 1 where neither says otherwise. The network reads any number of such
        examples: values are given to it behind a batch axis, in place of a first axis of size 1 or before it.
    fold_normalisation
        Whether batch normalisation behind a layer is multiplied into its weights; the network's notes say where.

    Raises
    ------
    FileFormatError
        For a damaged file.
    DchwError
        Where the package is missing, sizes are left open, or the graph unfolds into more than
        `dchw.importers.onnx.folding.MOST_VALUES` values or `dchw.importers.onnx.control.MOST_NODES` nodes.
    """
    path = Path(path)
    model = _model(path)
    inputs = graph_inputs(model.graph)
    sizes = resolved(str(path), inputs, input_shape)
    batch = common_batch(inputs)
    walk = None if batch is None else _one_example(path, model, sizes, batch)
    if walk is None:
        walk = OnnxWalk(str(path), model, inputs, sizes, declared=_declared(model.graph))
        if batch is not None:
            walk.notes.say(f"its {batch} examples, which depend on each other, are read as one")
    walk.notes.used_again(walk.again)
    network = Network(
        name=name or model.graph.name or path.stem,
        operations=tuple(walk.builder.operations),
        notes=walk.notes.lines(),
        left_out=walk.left_out,
        inner_outputs=walk.inner_outputs,
    )
    with np.errstate(all="ignore"):  # weights that overflow are refused as not finite
        return fold_batch_normalisation(network) if fold_normalisation else network


def _model(path: Path) -> Any:
    with extras_named(str(path)):
        import onnx
        import onnx.shape_inference
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except OSError as error:
        raise DchwError(f"{path}: it cannot be read ({error.strerror or error}); check the path") from error
    except Exception as error:  # onnx, its checker and protobuf each raise errors of their own
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise FileFormatError(f"{path}: expected an ONNX model; it is damaged ({first}); fetch it again") from error
    return model


def _declared(graph: Any) -> dict[str, Shape]:
    """Shapes that the file gives, of values whose every size is fixed."""
    described = {one.name: one.sizes for one in (value_of(value) for value in graph.value_info)}
    return {
        name: tuple(size for size in sizes if isinstance(size, int))
        for name, sizes in described.items()
        if sizes is not None and all(isinstance(size, int) for size in sizes)
    }


def _one_example(path: Path, model: Any, sizes: dict[str, Sizes | int], batch: int) -> OnnxWalk | None:
    """A graph of several examples read for one of them; None where they depend on each other or differ."""
    try:
        walk = OnnxWalk(str(path), model, graph_inputs(model.graph), sizes, batch)
    except DchwError:
        return None
    declared = {value.name: value for value in model.graph.output}
    alike = all(_same_but_batch(declared[name], shape, batch) for name, shape in walk.output_shapes(declared).items())
    return walk if alike else None


def _same_but_batch(value: Any, shape: Shape, batch: int) -> bool:
    """Whether a value has the shape that the file declares, except for the number of examples along one axis."""
    kind = value.type.tensor_type
    if not kind.HasField("shape") or any(dim.dim_value < 1 for dim in kind.shape.dim):
        return True
    declared = [dim.dim_value for dim in kind.shape.dim]
    if len(declared) != len(shape):
        return False
    other = [size for size, one in zip(declared, shape, strict=True) if size != one]
    return len(other) <= 1 and all(
        size == one * batch for size, one in zip(declared, shape, strict=True) if size != one
    )
