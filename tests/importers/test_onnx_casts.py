"""ONNX's casts to shorter whole numbers: wrapped as two's complement has them, and said where ONNX defines nothing."""

from __future__ import annotations

import numpy as np
import pytest

from dchw.importers.onnx.file import network_from_onnx
from tests.importers.onnx_models import agree, node, saved

onnx = pytest.importorskip("onnx", reason="needs the extra 'onnx'")
WIDE, FLOAT = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT


@pytest.mark.parametrize("short", ["INT8", "UINT8", "INT16", "UINT16"])
def test_whole_numbers_wrap(tmp_path, short):
    nodes = [
        node("Cast", "x", "wide", to=WIDE),
        node("Cast", "wide", "short", to=getattr(onnx.TensorProto, short)),
        node("Cast", "short", "y", to=FLOAT),
    ]
    path = saved(tmp_path, nodes, {}, (12,))
    edges = [-(2**17) - 3, -65537, -32769, -32768, -129, -128, -1, 0, 127, 255, 256, 65536]
    x = np.asarray([edges], np.float32)
    network = network_from_onnx(path)
    agree(path, x, network)
    assert not network.notes


def test_whole_numbers_that_fit_are_left_alone(tmp_path):
    nodes = [
        node("Cast", "x", "short", to=onnx.TensorProto.UINT8),
        node("Cast", "short", "wide", to=onnx.TensorProto.INT32),
        node("Cast", "wide", "y", to=FLOAT),
    ]
    path = saved(tmp_path, nodes, {}, (3,))
    network = network_from_onnx(path)
    agree(path, np.asarray([[0.4, 3.9, 254.5]], np.float32), network)
    assert len(network.operations) == 2
    assert network.notes == (
        "real values cast to 8- or 16-bit whole numbers are cut; beyond the range of the type ONNX defines no value "
        "(1): /short",
    )
