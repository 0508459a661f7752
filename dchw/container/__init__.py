"""The ``.dchw`` file: what it holds (`envelope`, `graph`, `layout`), writing and reading it, where its bytes go."""

from dchw.container.files import load, parse, save, to_bytes
from dchw.container.sizes import FileSizes, LayerSizes, sizes

__all__ = ["FileSizes", "LayerSizes", "load", "parse", "save", "sizes", "to_bytes"]
