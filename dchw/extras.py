"""Libraries that only parts of the package need: what is missing is named with the extra that brings it.

``torch`` trains networks and reads torch modules and checkpoints; ``plotly`` draws reports and figures. Simulating,
comparing and sweeping a ``.dchw`` file needs neither. pandas stays a dependency: every table is a DataFrame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from dchw.quantities import DchwError

EXTRAS: Mapping[str, str] = MappingProxyType(
    {
        "torch": "torch",
        "plotly": "report",
        "matplotlib": "plots",
        "sklearn": "demo",
        "onnx": "onnx",
        "tflite": "tflite",
        "distributed": "cluster",
    }
)
"""The extra that brings each library, by the name it is imported under."""


def hint(error: ModuleNotFoundError) -> str | None:
    """One sentence for a library that an extra brings; None for any other."""
    library = (error.name or "").partition(".")[0]
    if library not in EXTRAS:
        return None
    return f"{library}: needed here and not installed; install it: pip install 'dchw[{EXTRAS[library]}]'"


@contextmanager
def extras_named() -> Iterator[None]:
    """Turn the want of such a library into a DchwError that says how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        sentence = hint(error)
        if sentence is None:
            raise
        raise DchwError(sentence) from None
