"""How real numbers of codebooks and biases are rounded to a `ValueFormat` and written, little-endian.

``float32`` and ``float16`` are IEEE 754 binary32 and binary16. ``int8`` is symmetric: one float32 step, then one
signed byte per value in -127..127; the value is the float32 product of byte and step.
"""

from __future__ import annotations

import numpy as np

from dchw.compression.compressed import ValueFormat
from dchw.graph.network import FloatArray
from dchw.quantities import DchwError, FileFormatError

LARGEST_INT8 = 127
_NEIGHBOURS = 4
"""Neighbouring float32 steps that are tried when a step is recovered from values: the division may round."""


def round_to_format(values: FloatArray, form: ValueFormat) -> FloatArray:
    """The nearest values that ``form`` can hold, as float32 (ties to even); idempotent.

    float16 saturates at 65,504. int8 takes its step from the largest magnitude: step = largest / 127.
    """
    values = np.asarray(values, dtype=np.float32)
    if form is ValueFormat.FLOAT32:
        return values
    if form is ValueFormat.FLOAT16:
        largest = float(np.finfo(np.float16).max)
        half: FloatArray = np.clip(values, -largest, largest).astype(np.float16).astype(np.float32)
        return half
    try:
        return _integers(values, _step_of(values))[0]
    except DchwError:
        largest_value = np.float32(np.abs(values).max())
        step = np.float32(largest_value / np.float32(LARGEST_INT8))
        if step == 0:
            return np.zeros_like(values)
        rounded = np.clip(np.rint(values / step), -LARGEST_INT8, LARGEST_INT8).astype(np.float32) * step
        positive: FloatArray = rounded + np.float32(0)  # no negative zeros
        return positive


def encode_values(values: FloatArray, form: ValueFormat, where: str) -> bytes:
    """The bytes of ``values``; raises DchwError, beginning with ``where``, unless they read back bit-equal."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    if form is ValueFormat.FLOAT32:
        return values.astype("<f4").tobytes()
    if form is ValueFormat.FLOAT16:
        with np.errstate(over="ignore"):
            half = values.astype("<f2")
        same, data = half.astype(np.float32), half.tobytes()
    else:
        try:
            step = _step_of(values)
        except DchwError as error:
            raise DchwError(f"{where}: {error}") from None
        same, integers = _integers(values, step)
        data = np.float32(step).astype("<f4").tobytes() + integers.tobytes()
    if not np.array_equal(same.view(np.uint32), values.view(np.uint32)):
        raise DchwError(f"{where}: values are not exact in {form.value}; round them with round_to_format first")
    return data


def decode_values(data: bytes | memoryview, form: ValueFormat, count: int) -> FloatArray:
    """Values from exactly `encoded_bytes` bytes, float32 and read-only; raises FileFormatError for NaN and infinities.

    Values of float32 are ``data`` itself, no copy.
    """
    if form is ValueFormat.INT8:
        step = np.frombuffer(data, "<f4", 1)[0]
        integers = np.frombuffer(data, np.int8, count, 4)
        if not np.isfinite(step) or step < 0 or np.signbit(step) or (integers == -128).any():
            raise FileFormatError(f"expected a finite step and bytes from -127 to 127; got step {step}")
        with np.errstate(over="ignore"):
            values = integers.astype(np.float32) * np.float32(step)
    else:
        values = np.frombuffer(data, "<f4" if form is ValueFormat.FLOAT32 else "<f2", count)
        values = values.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise FileFormatError("expected finite values; got NaN or infinity")
    return values


def encoded_bytes(form: ValueFormat, count: int) -> int:
    """Bytes that ``count`` values take."""
    if form is ValueFormat.INT8:
        return 4 + count
    return count * (4 if form is ValueFormat.FLOAT32 else 2)


def _step_of(values: FloatArray) -> np.float32:
    """The step of values that are whole multiples of one, the largest being 127 steps; else DchwError."""
    largest = np.float32(np.abs(values).max(initial=np.float32(0)))
    nearest = np.float32(largest / np.float32(LARGEST_INT8))
    candidates = [nearest]
    for direction in (np.float32(np.inf), np.float32(0)):
        step = nearest
        for _ in range(_NEIGHBOURS):
            step = np.nextafter(step, direction)
            candidates.append(step)
    for step in candidates:
        same = _integers(values, step)[0]
        if np.array_equal(same.view(np.uint32), values.view(np.uint32)):
            return step
    raise DchwError("values are not whole multiples of one step; round them with round_to_format first")


def _integers(values: FloatArray, step: np.float32) -> tuple[FloatArray, np.ndarray[tuple[int], np.dtype[np.int8]]]:
    if step == 0:
        integers = np.zeros(values.size, np.int8)
    else:
        with np.errstate(over="ignore"):  # a neighbour of a step of 0; NumPy 1 warns of it even where nothing overflows
            steps = np.rint(values.ravel() / step)
        integers = np.clip(steps, -LARGEST_INT8, LARGEST_INT8).astype(np.int8)
    return (integers.astype(np.float32) * step).reshape(values.shape), integers
