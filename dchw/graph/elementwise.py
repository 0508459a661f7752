"""What the kinds ELEMENTWISE and REDUCE compute: functions of values at the same place, and of values along axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from dchw.graph.operations import FloatArray

ELEMENTWISE: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "subtract": np.subtract,
        "divide": np.divide,
        "maximum": np.maximum,
        "minimum": np.minimum,
        "power": np.power,
        "remainder": np.remainder,
        "equal": np.equal,
        "less": np.less,
        "less_equal": np.less_equal,
        "greater": np.greater,
        "greater_equal": np.greater_equal,
        "and": np.logical_and,
        "or": np.logical_or,
        "where": lambda condition, x, y: np.where(condition != 0, x, y),
    }
)
"""Functions of the kind ELEMENTWISE, of two operands (``where``: of three). Truth is 1.0 and 0.0."""

REDUCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "sum": np.sum,
        "product": np.prod,
        "maximum": np.max,
        "minimum": np.min,
        "argmax": lambda x, axis, keepdims: np.argmax(x, axis[0], keepdims=keepdims),
        "argmin": lambda x, axis, keepdims: np.argmin(x, axis[0], keepdims=keepdims),
    }
)
"""Functions of the kind REDUCE; ``argmax`` and ``argmin`` go over one axis and give the first of equal places."""


def combined(attributes: Mapping[str, Any], inputs: Sequence[FloatArray]) -> Any:
    """ELEMENTWISE: the function of operands that broadcast. Division by zero gives what IEEE 754 says."""
    with np.errstate(all="ignore"):
        return ELEMENTWISE[attributes["function"]](*inputs)


def reduced(attributes: Mapping[str, Any], inputs: Sequence[FloatArray]) -> Any:
    """REDUCE: the function of all values along some axes."""
    axes, keep = tuple(attributes["axes"]), bool(attributes.get("keep", False))
    with np.errstate(all="ignore"):
        return REDUCTIONS[attributes["function"]](inputs[0], axis=axes, keepdims=keep)


def quantised(x: FloatArray, step: float | FloatArray, low: float, high: float) -> Any:
    """x rounded to whole multiples of ``step`` (halves to the even one), the multiples limited to ``low``..``high``."""
    with np.errstate(all="ignore"):
        return np.clip(np.rint(x / np.float32(step)), low, high) * np.float32(step)


def quantised_dynamically(x: FloatArray) -> Any:
    """x of each example rounded to 256 steps over its own range, which holds 0: ONNX's DynamicQuantizeLinear."""
    axes = tuple(range(1, x.ndim))
    low = np.minimum(x.min(axis=axes, keepdims=True), 0.0)
    step = (np.maximum(x.max(axis=axes, keepdims=True), 0.0) - low) / np.float32(255)
    step = np.where(step > 0, step, np.float32(1))
    zero = np.clip(np.rint(-low / step), 0, 255)
    return (np.clip(np.rint(x / step) + zero, 0, 255) - zero) * step
