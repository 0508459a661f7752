"""The graph of a `torch.nn.Module`, captured by `torch.export` on an example input.

The module itself is never changed: a float32 copy in evaluation mode is exported. In it parametrizations (masks, shared
weights) and `torch.nn.utils.prune` are replaced by the weights they give, and `nn.MultiheadAttention` by an equal
module that keeps the batch axis first. The batch size stays free, so nothing in the graph depends on how many examples
were given.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from dchw.graph.network import Array, Network
from dchw.importers.fold import fold_batch_normalisation
from dchw.importers.torch import (  # noqa: F401  (they register themselves)
    cell_rules,
    layer_rules,
    pool_rules,
    rules,
    shape_rules,
)
from dchw.importers.torch.capture import exported, first_line
from dchw.importers.torch.walk import GraphWalk
from dchw.quantities import DchwError

Example = torch.Tensor | Array


def network_from_module(
    module: nn.Module,
    example_input: Example | tuple[Example, ...],
    *,
    name: str | None = None,
    fold_normalisation: bool = True,
    keep_example: bool = True,
) -> Network:
    """See `Network.from_module`. A tuple gives several inputs, in the order of ``forward``'s arguments.

    Layers are named after the module that owns the weight (``fc1`` for ``fc1.weight``), or after the parameter itself
    where no module of its own does. What has no kind of its own becomes OTHER with torch's name of it.
    Raises DchwError where torch.export cannot follow the module.
    """
    name = name or type(module).__name__
    examples = _examples(name, example_input)
    prepared = _prepared(name, module)
    program, batch = exported(name, prepared, examples)
    walk = GraphWalk(name, prepared, program, batch)
    operations, notes, left_out = walk.run()
    inputs = [op.name for op in operations if op.kind == "input"]
    kept = {k: v.detach().cpu().numpy() for k, v in zip(inputs, examples, strict=True)} if keep_example else {}
    network = Network(
        name=name,
        operations=operations,
        example_inputs=kept,
        notes=notes,
        left_out=left_out,
        inner_outputs=walk.inner_outputs(),
    )
    return fold_batch_normalisation(network) if fold_normalisation else network


def _examples(name: str, given: Example | tuple[Example, ...]) -> tuple[torch.Tensor, ...]:
    tensors = []
    for value in given if isinstance(given, tuple) else (given,):
        if not isinstance(value, torch.Tensor | np.ndarray):
            raise DchwError(
                f"module {name}: expected a tensor or array as example input; got {type(value).__name__}; convert it"
            )
        tensor = value.detach().cpu() if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))
        if tensor.ndim == 0 or tensor.shape[0] == 0:
            raise DchwError(
                f"module {name}: expected an example input with a batch axis first; got shape {tuple(tensor.shape)}; "
                "give at least one example"
            )
        tensors.append(tensor.float() if tensor.is_floating_point() else tensor)
    return tuple(tensors)


def _prepared(name: str, module: nn.Module) -> nn.Module:
    """A float32 copy in evaluation mode on the CPU, without parametrizations, attention made batch-first."""
    if isinstance(module, torch.export.ExportedProgram):
        raise DchwError(f"module {name}: expected a torch.nn.Module; got an exported program; give program.module()")
    if not isinstance(module, nn.Module):
        raise DchwError(f"module {name}: expected a torch.nn.Module; got {type(module).__name__}; wrap it in one")
    if isinstance(module, torch.jit.ScriptModule):
        raise DchwError(
            f"module {name}: a ScriptModule holds compiled code that torch.export does not follow; give the module it "
            "was made of, or save its state_dict() and read that"
        )
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        module = module.module
    # tensors computed from parameters, as torch.nn.utils.prune leaves them, cannot be copied: their values can
    computed = {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }
    try:
        prepared = copy.deepcopy(module, computed)
    except Exception as error:
        raise DchwError(
            f"module {name}: it cannot be copied ({first_line(error)}); detach its tensors first"
        ) from error
    prepared = prepared.cpu().float().eval()
    for part in list(prepared.modules()):
        if parametrize.is_parametrized(part):
            _fix_parametrized(part)
        for hook in list(part._forward_pre_hooks.values()):
            if isinstance(hook, prune.BasePruningMethod):
                prune.remove(part, hook._tensor_name)  # type: ignore[no-untyped-call]
    for parent in list(prepared.modules()):
        for child_name, child in list(parent.named_children()):
            if type(child) is nn.MultiheadAttention and child.bias_k is None and not child.add_zero_attn:
                setattr(parent, child_name, _BatchFirstAttention(child))
    if type(prepared) is nn.MultiheadAttention and prepared.bias_k is None and not prepared.add_zero_attn:
        prepared = _BatchFirstAttention(prepared).eval()
    return prepared.requires_grad_(False)


def _fix_parametrized(part: nn.Module) -> None:
    """Replace a module's parametrizations by the values they give.

    `parametrize.remove_parametrizations` would take the attribute away from the class, which the original shares.
    """
    names = list(cast(nn.ModuleDict, part.parametrizations))
    with torch.no_grad():
        values = {name: getattr(part, name).clone() for name in names}
    part.__class__ = type(part).__bases__[0]
    del part.parametrizations
    for name, value in values.items():
        part.register_parameter(name, nn.Parameter(value))


class _BatchFirstAttention(nn.Module):
    """`nn.MultiheadAttention` with the same parameters and results, its batch axis always first inside."""

    def __init__(self, original: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = original.num_heads
        self.batch_first = original.batch_first
        self.one_projection = original._qkv_same_embed_dim
        self.in_proj_weight = original.in_proj_weight
        self.q_proj_weight, self.k_proj_weight = original.q_proj_weight, original.k_proj_weight
        self.v_proj_weight = original.v_proj_weight
        self.in_proj_bias = original.in_proj_bias
        self.out_proj = original.out_proj

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, None]:
        if key_padding_mask is not None:
            raise DchwError("attention with a key padding mask is not supported; give examples of equal length")
        own = query is key and key is value
        if not self.batch_first:
            query = query.transpose(0, 1)
            key, value = (query, query) if own else (key.transpose(0, 1), value.transpose(0, 1))
        q, k, v = (self._by_head(x) for x in self._projected(query, key, value, own))
        if attn_mask is not None and attn_mask.ndim == 3:
            attn_mask = attn_mask.reshape(-1, self.heads, *attn_mask.shape[1:])
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        output = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return (output if self.batch_first else output.transpose(0, 1)), None

    def _projected(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, own: bool
    ) -> tuple[torch.Tensor, ...]:
        if self.one_projection and own:
            return nn.functional.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        weights: Any = (
            self.in_proj_weight.chunk(3)
            if self.one_projection
            else (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        )
        biases: Any = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return tuple(
            nn.functional.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)
        )

    def _by_head(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(*x.shape[:-1], self.heads, x.shape[-1] // self.heads).transpose(1, 2)
