"""The ``.dchw`` file: its parts (`envelope`, `plain_graph`, `layer_bytes`), writing, reading, where its bytes go."""

from dchw.container.saving import load, parse, save, to_bytes
from dchw.container.sizes import FileSizes, LayerSizes, sizes

__all__ = ["FileSizes", "LayerSizes", "load", "parse", "save", "sizes", "to_bytes"]
