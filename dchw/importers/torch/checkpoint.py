"""Weights in torch checkpoints, read with ``weights_only=True``: nothing in a file is ever executed."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dchw.graph.network import Array, Network
from dchw.importers.named_tensors import PartialGeometry, network_from_tensors
from dchw.quantities import DchwError, FileFormatError

_NESTED = ("state_dict", "model_state_dict", "model")


def network_from_torch_file(
    path: str | Path,
    *,
    geometry: Mapping[str, PartialGeometry] | None = None,
    name: str | None = None,
    partial: bool = False,
) -> Network:
    """The layers of a state dict (or of a checkpoint that holds one); see `network_from_tensors` for what becomes what.

    Raises FileFormatError where the file is damaged or holds anything but tensors and plain containers.
    """
    import torch

    path = Path(path)
    if _is_script(path):
        raise FileFormatError(
            f"{path}: expected a checkpoint of tensors; it is a TorchScript archive, which holds code that is not run "
            "here; save module.state_dict(), or give the module it was made of to Network.from_module"
        )
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
    state, unreadable, notes = _state(loaded, path)
    if not state and not unreadable:
        raise FileFormatError(f"{path}: expected a state dict of tensors; got none; save module.state_dict()")
    return network_from_tensors(
        name or path.stem,
        state,
        geometry=geometry,
        unreadable=unreadable,
        notes=(f"weights from {path.name} without a graph: layers are independent of each other", *notes),
        partial=partial,
    )


def _is_script(path: Path) -> bool:
    """Whether a file is an archive of `torch.jit.save`."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name or name.endswith("/constants.pkl") for name in archive.namelist())


def _state(loaded: Any, path: Path, seen: tuple[int, ...] = ()) -> tuple[dict[str, Array], dict[str, str], list[str]]:
    """A state dict's tensors as arrays, what cannot be one with the reason, and notes; nested ones are looked into."""
    import torch

    if not isinstance(loaded, Mapping):
        return {}, {}, []
    seen = (*seen, id(loaded))
    inner = {key: value for key, value in loaded.items() if isinstance(value, Mapping)}
    for key, value in inner.items():
        if id(value) in seen:
            raise FileFormatError(f"{path}: its entry {str(key)!r} is the checkpoint itself; save module.state_dict()")
    chosen = next((key for key in _NESTED if key in inner), None)
    if chosen is None and not any(isinstance(value, torch.Tensor) for value in loaded.values()):
        holders = [key for key, value in inner.items() if any(isinstance(x, torch.Tensor) for x in value.values())]
        if len(holders) > 1:
            raise FileFormatError(
                f"{path}: expected one state dict; got {len(holders)}: {', '.join(map(str, holders))}; "
                "save the one that is meant"
            )
        chosen = holders[0] if holders else None
    if chosen is not None:
        return _state(inner[chosen], path, seen)
    arrays: dict[str, Array] = {}
    unreadable: dict[str, str] = {}
    quantised = 0
    for key, value in loaded.items():
        if not isinstance(value, torch.Tensor):
            continue
        if value.is_meta:
            unreadable[str(key)] = "a meta tensor, which has no values"
        elif value.is_complex():
            unreadable[str(key)] = "complex numbers, which no layer here multiplies"
        else:
            quantised += value.is_quantized
            plain = value.dequantize() if value.is_quantized else value.detach()
            arrays[str(key)] = (plain.to_dense() if plain.layout != torch.strided else plain).float().numpy()
    return arrays, unreadable, [f"{quantised} quantised tensors are dequantised"] if quantised else []


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
