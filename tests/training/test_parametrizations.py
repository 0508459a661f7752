"""Are masks held, gradients summed per shared value, and layers found wherever they are nested?"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dchw.quantities import DchwError
from dchw.training.module_weights import weights_of
from dchw.training.parametrizations import (
    Reassigned,
    Shared,
    attach_masks,
    codes_and_codebook,
    hold_codes,
    let_codes_change,
    materialise,
    shadow,
    share_weights,
)
from tests.oracles.training import summed_gradients
from tests.training.nets import nested


def test_layers_are_found_at_every_depth() -> None:
    assert [weight.name for weight in weights_of(nested())] == [
        "features.0",
        "classifier.hidden",
        "classifier.scores",
    ]
    assert [weight.name for weight in weights_of(nn.Linear(2, 3))] == ["layer"]


def test_a_layer_used_twice_is_one_layer() -> None:
    layer = nn.Linear(4, 4)
    assert [weight.name for weight in weights_of(nn.Sequential(layer, nn.ReLU(), layer))] == ["0"]


def test_a_module_without_layers_is_refused() -> None:
    with pytest.raises(DchwError, match=r"training of ReLU: expected at least one linear, .*; found none"):
        attach_masks(nn.ReLU())


def test_masked_weights_stay_zero_and_their_shadows_stay_as_they_were() -> None:
    module = nested()
    masks = attach_masks(module)
    before = {weight.name: shadow(weight).detach().clone() for weight in weights_of(module)}
    generator = torch.Generator().manual_seed(1)
    for mask in masks.values():
        mask.copy_((torch.rand(mask.shape, generator=generator) < 0.3).float())
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        module(torch.rand(8, 1, 28, 28, generator=generator)).square().sum().backward()
        optimizer.step()
    for weight in weights_of(module):
        pruned = masks[weight.name] == 0
        assert not weight.value[pruned].any()
        assert torch.equal(shadow(weight)[pruned], before[weight.name][pruned])
        assert (shadow(weight)[~pruned] != before[weight.name][~pruned]).any()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shared_values=st.integers(1, 7),
    shape=st.sampled_from([(5, 4), (3, 2, 2, 2), (1, 1)]),
)
def test_gradient_of_a_shared_value_is_the_sum_over_its_weights(
    seed: int, shared_values: int, shape: tuple[int, ...]
) -> None:
    random = np.random.default_rng(seed)
    codes = random.integers(0, shared_values + 1, shape)
    values = torch.from_numpy(random.normal(size=shared_values)).requires_grad_()
    upstream = random.normal(size=shape)
    shared = Shared(torch.from_numpy(codes), values.detach())
    weight = shared(values)
    np.testing.assert_array_equal(weight.detach().numpy(), np.concatenate([[0.0], values.detach().numpy()])[codes])
    (weight * torch.from_numpy(upstream)).sum().backward()
    np.testing.assert_allclose(
        values.grad.numpy(), summed_gradients(upstream, codes, shared_values), rtol=1e-12, atol=1e-12
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shared_values=st.integers(1, 7))
def test_codes_that_may_change_are_nearest_and_both_sides_get_their_gradient(seed: int, shared_values: int) -> None:
    random = np.random.default_rng(seed)
    weight = random.normal(size=(6, 5)) * random.integers(0, 2, (6, 5))
    values = torch.from_numpy(random.normal(size=shared_values)).requires_grad_()  # in any order
    reassigned = Reassigned(torch.from_numpy(weight), values.detach())
    own = reassigned.right_inverse(torch.from_numpy(weight))[1].clone().requires_grad_()
    used = reassigned(values, own)
    distances = np.abs(weight[..., None] - values.detach().numpy())
    codes = np.where(weight != 0, 1 + distances.argmin(-1), 0)
    np.testing.assert_allclose(
        used.detach().numpy(), np.concatenate([[0.0], values.detach().numpy()])[codes], atol=1e-12
    )
    upstream = random.normal(size=weight.shape)
    (used * torch.from_numpy(upstream)).sum().backward()
    np.testing.assert_allclose(
        values.grad.numpy(), summed_gradients(upstream, codes, shared_values), rtol=1e-12, atol=1e-12
    )
    np.testing.assert_array_equal(own.grad.numpy(), upstream[weight != 0])


def test_a_weight_moves_to_the_value_its_own_value_comes_near_to_and_unused_values_go() -> None:
    module = nn.Sequential(nn.Linear(4, 1, bias=False))
    codebook = np.array([0, -1, 0.25, 1], np.float32)
    share_weights(module, {"0": (np.array([[0, 1, 3, 2]]), codebook)})
    let_codes_change(module, {"0": torch.tensor([[0.0, -0.9, 0.8, 0.3]])})
    assert module[0].weight.tolist() == [[0.0, -1.0, 1.0, 0.25]]
    with torch.no_grad():
        module[0].parametrizations.weight.original1.copy_(torch.tensor([-0.9, 0.8, 0.7]))
    assert module[0].weight.tolist() == [[0.0, -1.0, 1.0, 1.0]]
    hold_codes(module)
    codes, held = codes_and_codebook(*weights_of(module))
    assert codes.tolist() == [[0, 1, 2, 2]]
    assert held.tolist() == [0, -1, 1]
    assert module[0].weight.tolist() == [[0.0, -1.0, 1.0, 1.0]]


def test_the_oracle_sees_a_mean_instead_of_a_sum() -> None:
    codes, upstream = np.array([1, 1, 2, 0]), np.array([1.0, 2.0, 4.0, 8.0])
    assert summed_gradients(upstream, codes, 2).tolist() == [3.0, 4.0]
    assert summed_gradients(upstream / [2, 2, 1, 1], codes, 2).tolist() != [3.0, 4.0]


def test_shared_layers_give_back_codes_and_values_bit_for_bit() -> None:
    module = nested()
    random = np.random.default_rng(0)
    given_codebooks = {}
    for weight in weights_of(module):
        codebook = np.array([0, -0.5, 0.25, 1e-3], np.float32)
        given_codebooks[weight.name] = random.integers(0, 4, weight.value.shape), codebook
    share_weights(module, given_codebooks)
    for weight in weights_of(module):
        codes, codebook = codes_and_codebook(weight)
        np.testing.assert_array_equal(codes, given_codebooks[weight.name][0])
        np.testing.assert_array_equal(codebook, given_codebooks[weight.name][1])
        np.testing.assert_array_equal(weight.value.detach().numpy(), codebook[codes])
        assert shadow(weight).shape == (3,)


def test_materialised_weights_are_plain_and_copies_are_untouched() -> None:
    module = nested()
    masks = attach_masks(module)
    masks["classifier.hidden"][:, ::2] = 0
    twin = copy.deepcopy(module)
    expected = module.classifier["hidden"].weight.detach().clone()
    materialise(module)
    assert isinstance(module.classifier["hidden"].weight, nn.Parameter)
    assert torch.equal(module.classifier["hidden"].weight, expected)
    assert torch.equal(twin.classifier["hidden"].weight, expected)


def test_plain_layers_are_not_taken_for_shared_ones() -> None:
    with pytest.raises(DchwError, match="layer 'layer': expected its weight to be shared; it is plain"):
        codes_and_codebook(*weights_of(nn.Linear(2, 2)))
    module = nn.Sequential(nn.Linear(2, 2))
    attach_masks(module)
    with pytest.raises(DchwError, match="layer '0': expected its weight to be shared; it is masked"):
        codes_and_codebook(*weights_of(module))
