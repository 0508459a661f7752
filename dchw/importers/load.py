"""One way in for every file and name that stands for a network."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Collection
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dchw.arguments import checked
from dchw.extras import extras_named
from dchw.importers.geometry_tables import BUILT_IN
from dchw.importers.shipped import SHIPPED
from dchw.importers.synthetic import SYNTHETIC
from dchw.quantities import DchwError, forgiven, nearest

if TYPE_CHECKING:
    from dchw.compression.compressed import CompressedNetwork
    from dchw.graph.network import Network

_READERS = MappingProxyType(
    {
        ".dchw": ("dchw.container.saving", "load"),
        ".net": ("dchw.importers.deep_compression_release", "read_release"),
        ".onnx": ("dchw.importers.onnx.file", "network_from_onnx"),
        ".prototxt": ("dchw.importers.prototxt", "network_from_prototxt"),
        ".pt": ("dchw.importers.torch.checkpoint", "network_from_torch_file"),
        ".pth": ("dchw.importers.torch.checkpoint", "network_from_torch_file"),
        ".tflite": ("dchw.importers.tflite.file", "network_from_tflite"),
        ".safetensors": ("dchw.importers.safetensors_file", "network_from_safetensors"),
    }
)


_BUILT_IN: tuple[tuple[Collection[str], tuple[str, str], str], ...] = (
    (SHIPPED, ("dchw.importers.shipped", "shipped_network"), "trained on MNIST and compressed"),
    (SYNTHETIC, ("dchw.importers.synthetic", "synthetic_network"), "synthetic weights of the published densities"),
    (BUILT_IN, ("dchw.importers.geometry_tables", "network_from_table"), "geometry alone: all weights are zeros"),
)
"""Names, who makes a network of one, and what one gets."""


def built_in_names() -> dict[str, str]:
    """Names that `load_network` knows without a file, and what each gives."""
    return {name: what for names, _, what in _BUILT_IN for name in names}


@checked
def load_network(path: str | Path, **options: Any) -> Network | CompressedNetwork:
    """A network from a file or by name.

    Parameters
    ----------
    path
        - ``NAME.dchw``: a `CompressedNetwork`, as `dchw.load` gives it.
        - ``NAME.net``, a Deep Compression release: a `CompressedNetwork`; its prototxt lies beside it or is given as
          ``prototxt=``.
        - ``NAME.safetensors``: a `Network`; `dchw.importers.safetensors_file` says where its geometry comes from.
        - ``NAME.pt``, ``NAME.pth``: a `Network` from a torch checkpoint of tensors; nothing in it is executed.
        - ``NAME.onnx``: a `Network` (needs the extra ``onnx``); ``input_shape={"x": (1, 3, 224, 224)}`` gives the
          sizes that the file leaves open.
        - ``NAME.tflite``: a `Network` (needs the extra ``tflite``).
        - ``NAME.prototxt``: a `Network` whose weights are zeros.
        - a built-in name (``dchw list`` has all; case and ``_`` for ``-`` do not count): ``lenet-300-100`` and
          ``lenet-5``, trained and compressed; ``alexnet-synthetic`` and the like, seeded synthetic weights of the
          published densities (``seed=``); ``alexnet``, ``vgg16``, ``squeezenet_v1_0``, the geometry with zeros for
          weights.
    options
        Go to the reader that is responsible.

    Returns
    -------
    Network or CompressedNetwork
        The second for ``.dchw``, ``.net``, trained and synthetic networks.

    Raises
    ------
    DchwError
        When nothing can be made of ``path``, and for an option the reader does not know.

    Examples
    --------
    >>> import dchw
    >>> [layer.name for layer in dchw.load_network("alexnet").layers][-3:]
    ['fc6', 'fc7', 'fc8']
    """
    name, suffix = str(path), Path(path).suffix.lower()
    if suffix in _READERS:
        module, function = _READERS[suffix]
    elif (built_in := forgiven(name, built_in_names())) is not None:
        path = built_in
        module, function = next(reader for names, reader, _ in _BUILT_IN if built_in in names)
    elif suffix in (".pt2", ".jit", ".ts"):
        how = "torch.export.load(path).module()" if suffix == ".pt2" else "the module it was made of"
        raise DchwError(
            f"{name}: a program of torch is not read, for reading could run it; give {how} to Network.from_module"
        )
    elif suffix:
        raise DchwError(f"{name}: expected a file ending in {', '.join(_READERS)}; got {suffix}; convert it")
    else:
        raise DchwError(f"{name}: there is no such built-in network; {nearest(name, built_in_names())}")
    with extras_named():
        reader = getattr(importlib.import_module(module), function)
    known = list(inspect.signature(reader).parameters)[1:]
    for option in options:
        if option not in known:
            hint = nearest(option, known) if known else "it takes none"
            raise DchwError(f"{name}: no option {option!r} for such a network; {hint}")
    return reader(path, **options)  # type: ignore[no-any-return]
