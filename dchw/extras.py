"""Libraries that only parts of the package need: what is missing is named with the extra that brings it.

``torch`` trains networks and reads torch modules and checkpoints; ``plotly`` draws reports and figures. Simulating,
comparing and sweeping a ``.dchw`` file needs neither. pandas stays a dependency: every table is a DataFrame.
"""

from __future__ import annotations

import importlib
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
        "optuna": "search",
        "distributed": "cluster",
        "ethosu": "peers",
        "zstandard": "peers",
    }
)
"""The extra that brings each library, by the name it is imported under."""


def hint(error: ModuleNotFoundError, purpose: str = "", extra: str = "") -> str | None:
    """One sentence for a library that an extra brings; None for any other.

    ``purpose`` says what needs it (a verb, a file), ``extra`` which extra brings all that this needs, where that is
    more than the library alone.
    """
    library = (error.name or "").partition(".")[0]
    if library not in EXTRAS:
        return None
    install = f"pip install 'dchw[{extra or EXTRAS[library]}]'"
    if purpose:
        return f"{purpose}: expected {library}, which is not installed; {install}"
    return f"{library}: needed here and not installed; install it: {install}"


@contextmanager
def extras_named(purpose: str = "", extra: str = "") -> Iterator[None]:
    """Turn the want of such a library into a DchwError that says how to get it, in `hint`'s words."""
    try:
        yield
    except ModuleNotFoundError as error:
        sentence = hint(error, purpose, extra)
        if sentence is None:
            raise
        raise DchwError(sentence) from None


def require(purpose: str, *libraries: str, extra: str = "") -> None:
    """Ask for libraries before the work that ends with them begins; raises DchwError for the first that is missing."""
    with extras_named(purpose, extra):
        for library in libraries:
            importlib.import_module(library)
