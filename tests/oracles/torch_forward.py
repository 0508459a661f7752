"""A network's graph run by torch, one function call per operation."""

from __future__ import annotations

import torch
from torch.nn import functional

from dchw.graph.network import Network, OperationKind


def torch_forward(network: Network, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Output of every operation of a convolutional network (the kinds that Caffe's networks need)."""
    out: dict[str, torch.Tensor] = {}
    kinds = OperationKind
    for op in network.operations:
        x = [out[name] for name in op.inputs]
        a = dict(op.attributes)
        weight, bias = (None if v is None else torch.from_numpy(v.copy()) for v in (op.weight, op.bias))
        if op.kind is kinds.INPUT:
            out[op.name] = inputs[op.name]
        elif op.kind is kinds.CONV2D:
            out[op.name] = functional.conv2d(x[0], weight, bias, a["stride"], a["padding"], a["dilation"], a["groups"])
        elif op.kind is kinds.LINEAR:
            out[op.name] = functional.linear(x[0], weight, bias)
        elif op.kind is kinds.MAX_POOL2D:
            out[op.name] = functional.max_pool2d(x[0], a["kernel"], a["stride"], a["padding"], ceil_mode=a["ceil_mode"])
        elif op.kind is kinds.GLOBAL_AVERAGE_POOL:
            out[op.name] = functional.adaptive_avg_pool2d(x[0], 1)
        elif op.kind is kinds.CONCAT:
            out[op.name] = torch.cat(x, dim=a["axis"])
        elif op.kind is kinds.ACTIVATION:
            out[op.name] = {"relu": torch.relu, "softmax": lambda v: torch.softmax(v, 1)}[a["function"]](x[0])
        elif op.kind is kinds.FLATTEN:
            out[op.name] = x[0].flatten(1)
        elif op.kind is kinds.IDENTITY:
            out[op.name] = x[0]
        else:
            raise NotImplementedError(op.kind)
    return out
