"""Networks described in Caffe's text format (``deploy.prototxt``): the graph, with zeros for weights.

The graph is built from the layer types below, with the rounding and defaults of Caffe's ``caffe.proto``. Anything
unknown is an error that names file and line, because a misread geometry would give wrong results silently.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dchw.graph.network import Network, OperationKind
from dchw.importers.caffe_text import Message, parse, shown
from dchw.importers.graph_builder import GraphBuilder
from dchw.quantities import DchwError, FileFormatError, nearest


def network_from_prototxt(
    path: str | Path, *, input_shape: tuple[int, int, int] | None = None, name: str | None = None
) -> Network:
    """The network of a prototxt file, its weights zeros that take no memory, as ``notes`` says.

    ``input_shape`` (channels, height, width) is needed where the file reads its input from a data layer, which does
    not tell it. Layers of the training phase, labels and accuracies are left out; a loss becomes its softmax.
    Raises FileFormatError with file and line for anything that cannot be understood.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DchwError(f"{path}: it cannot be read ({error.strerror or error}); check the path") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: expected Caffe's text format; got binary data; give a .prototxt") from error
    root = parse(text, str(path))
    build = _CaffeGraph(root, input_shape)
    for layer in [*root.all("layer"), *root.all("layers")]:
        if not isinstance(layer, Message):
            raise root.fault(f"expected layer {{...}}; got {shown(layer)}; correct it")
        build.layer(layer)
    if not build.graph.operations:
        raise root.fault("expected an input and layers; got none; give a deploy.prototxt")
    title = name or root.one("name", str) or path.stem
    notes = (f"graph from {path.name}, weights are zeros",)
    return Network(name=title, operations=tuple(build.graph.operations), notes=notes)


class _CaffeGraph:
    """The graph under construction: which operation last wrote each of Caffe's blobs."""

    def __init__(self, root: Message, input_shape: tuple[int, int, int] | None) -> None:
        self.graph = GraphBuilder(root.file)
        self._blobs: dict[str, str] = {}
        self._input_shape = input_shape
        shapes = [message.all("dim") for message in root.all("input_shape")]
        flat = root.all("input_dim")
        names = root.all("input")
        if not shapes and flat and len(flat) == 4 * len(names):
            shapes = [flat[4 * i : 4 * i + 4] for i in range(len(names))]
        if len(shapes) != len(names):
            raise root.fault(f"expected four input_dim or one input_shape for each of {len(names)} inputs; add them")
        for name, shape in zip(names, shapes, strict=True):
            self._input(root, str(name), shape)

    def layer(self, layer: Message) -> None:
        """Append what one layer does."""
        kind = layer.one("type", str)
        if kind is None:
            raise layer.fault('expected a type in this layer; got none; add type: "..."')
        kind = _OLD_NAMES.get(kind, kind)
        phases = [str(rule.one("phase", str, "TEST")) for rule in layer.all("include")]
        if phases and "TEST" not in phases:
            return
        if kind in ("Accuracy", "Silence"):
            return
        rule = _LAYERS.get(kind)
        if rule is None:
            raise layer.fault(f"layers of type {kind!r} are not known; {nearest(kind, _LAYERS)}")
        try:
            rule(self, layer)
        except FileFormatError:
            raise
        except DchwError as error:
            raise layer.fault(str(error).removeprefix(f"{layer.file}: ")) from error

    def name(self, layer: Message) -> str:
        value = layer.one("name", str)
        if not value:
            raise layer.fault('expected a name in this layer; got none; add name: "..."')
        return str(value)

    def sources(self, layer: Message, count: int | None = 1) -> list[str]:
        """The operations a layer reads; ``count`` is how many there must be (None: one or more)."""
        blobs = [str(blob) for blob in layer.all("bottom")]
        if layer.one("type", str) in _LOSSES:
            blobs = blobs[:1]  # the others are labels
        if not blobs or (count is not None and len(blobs) != count):
            raise layer.fault(f"expected {count or 'at least 1'} bottom here; got {len(blobs)}; correct them")
        for blob in blobs:
            if blob not in self._blobs:
                raise layer.fault(f"nothing gives blob {blob!r}; {nearest(blob, self._blobs or {'an input'})}")
        return [self._blobs[blob] for blob in blobs]

    def gives(self, layer: Message, operation: str) -> None:
        """Record the operation as the writer of the layer's outputs."""
        for top in layer.all("top") or [self.name(layer)]:
            self._blobs[str(top)] = operation

    def _input(self, at: Message, blob: str, shape: list[Any]) -> None:
        if len(shape) < 2 or not all(isinstance(d, int) and d > 0 for d in shape):
            raise at.fault(f"expected batch, channels, height and width of input {blob!r}; got {shape}; correct them")
        self._blobs[blob] = self.graph.input(blob, tuple(shape[1:]))

    def input_layer(self, layer: Message) -> None:
        shapes = [message.all("dim") for message in layer.message("input_param").all("shape")]
        tops = [str(top) for top in layer.all("top")]
        if len(shapes) == 1:
            shapes *= len(tops)
        if len(shapes) != len(tops) or not tops:
            raise layer.fault("expected input_param { shape { dim: ... } } for every top; add it")
        for top, shape in zip(tops, shapes, strict=True):
            self._input(layer, top, shape)

    def data_layer(self, layer: Message) -> None:
        if self._input_shape is None:
            raise layer.fault("a data layer does not tell its shape; give input_shape=(channels, height, width)")
        top = str((layer.all("top") or ["data"])[0])
        self._input(layer, top, [1, *self._input_shape])


def _pair(message: Message, name: str, default: int, *, low: int, repeated: str | None = None) -> tuple[int, int]:
    """Height and width of a size given once, twice, or as NAME_h and NAME_w."""
    repeated = repeated or name
    values = message.all(repeated)
    sides = (message.one(f"{name}_h", int), message.one(f"{name}_w", int))
    if sides != (None, None):
        if values or None in sides:
            raise message.fault(f"expected either {repeated} or both {name}_h and {name}_w; got a mixture; keep one")
        values = list(sides)
    values = values or [default]
    if len(values) > 2 or not all(isinstance(v, int) and v >= low for v in values):
        raise message.fault(
            f"expected one or two whole numbers of at least {low} for {repeated}; got {values}; correct them"
        )
    return values[0], values[-1]


def _convolution(build: _CaffeGraph, layer: Message) -> None:
    parameters = layer.message("convolution_param")
    parameters.only(*_CONVOLUTION_KEYS)
    build.gives(
        layer,
        build.graph.conv(
            build.name(layer),
            build.sources(layer)[0],
            _outputs(parameters),
            _pair(parameters, "kernel", 0, low=1, repeated="kernel_size"),
            stride=_pair(parameters, "stride", 1, low=1),
            padding=_pair(parameters, "pad", 0, low=0),
            dilation=_pair(parameters, "dilation", 1, low=1),
            groups=parameters.one("group", int, 1),
            bias=parameters.one("bias_term", bool, True),
        ),
    )


_CONVOLUTION_KEYS = (
    *("num_output", "bias_term", "group", "weight_filler", "bias_filler", "engine"),
    *("kernel_size", "kernel_h", "kernel_w", "stride", "stride_h", "stride_w", "pad", "pad_h", "pad_w", "dilation"),
)


def _outputs(parameters: Message) -> int:
    outputs = parameters.one("num_output", int)
    if outputs is None or outputs < 1:
        raise parameters.fault(f"expected num_output of at least 1; got {outputs}; correct it")
    return int(outputs)


def _inner_product(build: _CaffeGraph, layer: Message) -> None:
    parameters = layer.message("inner_product_param")
    parameters.only("num_output", "bias_term", "weight_filler", "bias_filler")
    name, source, bias = build.name(layer), build.sources(layer)[0], parameters.one("bias_term", bool, True)
    build.gives(layer, build.graph.linear(name, source, _outputs(parameters), bias=bias))


def _pooling(build: _CaffeGraph, layer: Message) -> None:
    parameters = layer.message("pooling_param")
    parameters.only(
        *("pool", "global_pooling", "engine", "kernel_size", "kernel_h", "kernel_w"),
        *("stride", "stride_h", "stride_w", "pad", "pad_h", "pad_w"),
    )
    name, source, form = build.name(layer), build.sources(layer)[0], parameters.one("pool", str, "MAX")
    if form not in ("MAX", "AVE"):
        raise parameters.fault(f"pooling {form!r} is not known; {nearest(str(form), ('MAX', 'AVE'))}")
    kind = OperationKind.MAX_POOL2D if form == "MAX" else OperationKind.AVERAGE_POOL2D
    if parameters.one("global_pooling", bool, False):
        if form == "AVE":
            build.gives(layer, build.graph.global_average_pool(name, source))
        else:
            size = build.graph.shape(source)[-2:]
            build.gives(layer, build.graph.pool(name, source, kind, (size[0], size[-1]), (1, 1)))
        return
    kernel = _pair(parameters, "kernel", 0, low=1, repeated="kernel_size")
    stride, padding = _pair(parameters, "stride", 1, low=1), _pair(parameters, "pad", 0, low=0)
    build.gives(layer, build.graph.pool(name, source, kind, kernel, stride, padding, ceil_mode=True))


def _relu(build: _CaffeGraph, layer: Message) -> None:
    slope = layer.message("relu_param").one("negative_slope", float, 0.0)
    source = build.sources(layer)[0]
    extra = {"slope": slope} if slope else {}
    build.gives(layer, build.graph.activation(build.name(layer), source, "leaky_relu" if slope else "relu", **extra))


def _activation(function: str) -> Callable[[_CaffeGraph, Message], None]:
    def rule(build: _CaffeGraph, layer: Message) -> None:
        build.gives(layer, build.graph.activation(build.name(layer), build.sources(layer)[0], function))

    return rule


def _softmax(build: _CaffeGraph, layer: Message) -> None:
    source = build.sources(layer)[0]
    axis = layer.message("softmax_param").one("axis", int, 1)
    build.gives(layer, build.graph.activation(build.name(layer), source, "softmax", axis=axis))


def _local_response(build: _CaffeGraph, layer: Message) -> None:
    parameters = layer.message("lrn_param")
    parameters.only("local_size", "alpha", "beta", "k", "norm_region", "engine")
    name, source = build.name(layer), build.sources(layer)[0]
    if parameters.one("norm_region", str, "ACROSS_CHANNELS") != "ACROSS_CHANNELS":
        shape = build.graph.shape(source)
        target = {"target": "local response normalisation within channels"}
        build.gives(layer, build.graph.add(OperationKind.OTHER, name, [source], target, shape=shape))
        return
    size, alpha = parameters.one("local_size", int, 5), parameters.one("alpha", float, 1.0)
    beta, k = parameters.one("beta", float, 0.75), parameters.one("k", float, 1.0)
    build.gives(layer, build.graph.local_response(name, source, size, alpha, beta, k))


def _concat(build: _CaffeGraph, layer: Message) -> None:
    axis = layer.message("concat_param").one("axis", int, 1)
    build.gives(layer, build.graph.concat(build.name(layer), build.sources(layer, None), axis))


def _eltwise(build: _CaffeGraph, layer: Message) -> None:
    parameters = layer.message("eltwise_param")
    parameters.only("operation")
    form = parameters.one("operation", str, "SUM")
    if form not in ("SUM", "PROD"):
        raise parameters.fault(f"element-wise {form!r} is not known; {nearest(str(form), ('SUM', 'PROD'))}")
    kind = OperationKind.ADD if form == "SUM" else OperationKind.MULTIPLY
    build.gives(layer, build.graph.elementwise(kind, build.name(layer), build.sources(layer, None)))


_LAYERS: MappingProxyType[str, Callable[[_CaffeGraph, Message], None]] = MappingProxyType(
    {
        "Input": _CaffeGraph.input_layer,
        "Data": _CaffeGraph.data_layer,
        "ImageData": _CaffeGraph.data_layer,
        "Convolution": _convolution,
        "InnerProduct": _inner_product,
        "Pooling": _pooling,
        "ReLU": _relu,
        "Sigmoid": _activation("sigmoid"),
        "TanH": _activation("tanh"),
        "LRN": _local_response,
        "Concat": _concat,
        "Eltwise": _eltwise,
        "Flatten": lambda b, layer: b.gives(layer, b.graph.flatten(b.name(layer), b.sources(layer)[0])),
        "Dropout": lambda b, layer: b.gives(layer, b.graph.identity(b.name(layer), b.sources(layer)[0])),
        "Softmax": _softmax,
        "SoftmaxWithLoss": _softmax,
    }
)

_LOSSES = ("SoftmaxWithLoss", "SOFTMAX_LOSS")

_OLD_NAMES: MappingProxyType[str, str] = MappingProxyType(
    {
        "CONVOLUTION": "Convolution",
        "INNER_PRODUCT": "InnerProduct",
        "POOLING": "Pooling",
        "RELU": "ReLU",
        "CONCAT": "Concat",
        "DROPOUT": "Dropout",
        "SOFTMAX": "Softmax",
        "SOFTMAX_LOSS": "SoftmaxWithLoss",
        "ACCURACY": "Accuracy",
        "DATA": "Data",
        "ELTWISE": "Eltwise",
        "FLATTEN": "Flatten",
    }
)
"""Types of Caffe's first format (``layers { type: CONVOLUTION }``)."""
