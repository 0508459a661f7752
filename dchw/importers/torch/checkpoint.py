"""Weights in torch checkpoints, read with ``weights_only=True``: nothing in a file is ever executed."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dchw.graph.network import Array, Network
from dchw.importers.named_tensors import PartialGeometry, network_from_tensors
from dchw.quantities import DchwError, FileFormatError

_NESTED = ("state_dict", "model_state_dict", "model")


def network_from_torch_file(
    path: str | Path, *, geometry: Mapping[str, PartialGeometry] | None = None, name: str | None = None
) -> Network:
    """The layers of a state dict (or of a checkpoint that holds one); see `network_from_tensors` for what becomes what.

    Raises FileFormatError where the file is damaged or holds anything but tensors and plain containers.
    """
    import torch

    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's opinion of unusual pickles
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FileFormatError(
            f"{path}: expected tensors only; it holds other objects, which are not loaded because they could run code; "
            "save module.state_dict() instead"
        ) from error
    except OSError as error:
        raise DchwError(f"{path}: it cannot be read ({error.strerror or error}); check the path") from error
    except (RuntimeError, ValueError, EOFError, KeyError, AttributeError) as error:
        raise FileFormatError(
            f"{path}: expected a torch checkpoint; it is damaged ({_first_line(error)}); get it again"
        ) from error
    state = _state(loaded)
    if not state:
        raise FileFormatError(f"{path}: expected a state dict of tensors; got none; save module.state_dict()")
    return network_from_tensors(
        name or path.stem,
        state,
        geometry=geometry,
        notes=(f"weights from {path.name} without a graph: layers are independent of each other",),
    )


def _state(loaded: Any) -> dict[str, Array]:
    """The tensors of a state dict as arrays, looking one level down into a training checkpoint."""
    import torch

    if not isinstance(loaded, Mapping):
        return {}
    for key in _NESTED:
        if isinstance(loaded.get(key), Mapping):
            return _state(loaded[key])
    return {
        str(key): value.detach().float().numpy() for key, value in loaded.items() if isinstance(value, torch.Tensor)
    }


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
