"""Do pruning, regrowth, cleaning, compaction and sharing keep to their rules on nested modules?"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dchw.compression.compressed import ValueFormat
from dchw.compression.value_formats import round_to_format
from dchw.quantities import DchwError
from dchw.training.batches import ImageBatches, as_input
from dchw.training.compaction import Compact, compact
from dchw.training.loop import Objective, fit
from dchw.training.module_weights import weights_of
from dchw.training.parametrizations import attach_masks, codes_and_codebook
from dchw.training.pruning import Pruning, Scope, Score, prune, recompute_masks, remove_dead_weights
from dchw.training.sharing import Sharing, share, share_and_finetune
from dchw.training.statistics import per_weight, watch
from tests.training.nets import SHORT, Nested, batches, nested


def plan(**changes: object) -> Pruning:
    return Pruning.model_validate(
        {"training": SHORT, "retraining": SHORT, "density": 0.2, "update_steps": 5, **changes}
    )


def counts(module: nn.Module) -> dict[str, int]:
    return {weight.name: int((weight.value != 0).sum()) for weight in weights_of(module)}


def sizes(module: nn.Module) -> dict[str, int]:
    return {weight.name: weight.value.numel() for weight in weights_of(module)}


def prune_and_retrain(module: nn.Module, data: ImageBatches, pruning: Pruning) -> Compact:
    prune(module, data, pruning, Objective())
    if pruning.remove_dead:
        remove_dead_weights(module, data, Objective())
    small = compact(module, as_input(data.images[:100]))
    fit(small.module, data, pruning.retraining, Objective(), stage="retrain")
    return small


def test_every_layer_ends_at_its_density() -> None:
    module = nested()
    small = prune_and_retrain(
        module, batches(), plan(density={"features.0": 0.5, "classifier.hidden": 0.1, "classifier.scores": 0.3})
    )
    total = sizes(nested())
    expected = {
        "features.0": round(0.5 * total["features.0"]),
        "classifier.hidden": round(0.1 * total["classifier.hidden"]),
        "classifier.scores": round(0.3 * total["classifier.scores"]),
    }
    assert counts(module) == expected
    # the compact form has the same weights, unless their channel was empty
    assert all(kept <= expected[name] for name, kept in counts(small.module).items())


def test_a_global_threshold_keeps_the_network_at_its_density() -> None:
    module = nested()
    prune_and_retrain(module, batches(), plan(scope=Scope.GLOBAL, score=Score.ACTIVATION, regrow=True))
    assert sum(counts(module).values()) == round(0.2 * sum(sizes(nested()).values()))


@pytest.mark.parametrize(("regrow", "returns"), [(True, True), (False, False)])
def test_a_pruned_weight_returns_only_with_regrowth(regrow: bool, returns: bool) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
    masks = attach_masks(module)
    with torch.no_grad():
        module[1].parametrizations.weight.original.copy_(torch.tensor([[4.0, 3.0, 2.0, 1.0]]))
    masks["1"][0, 0] = 0  # the largest weight is pruned
    with watch(module) as watching:
        recompute_masks(module, masks, {"1": 0.5}, plan(regrow=regrow), watching)
    assert masks["1"].tolist() == [[1, 1, 0, 0] if returns else [0, 1, 1, 0]]


def test_scores_follow_the_size_of_the_input() -> None:
    module = nn.Sequential(nn.Linear(3, 2, bias=False))
    masks = attach_masks(module)
    with torch.no_grad():
        module[0].parametrizations.weight.original.copy_(torch.tensor([[1.0, 3.0, 2.0], [-1.0, 0.5, -2.0]]))
    with watch(module) as watching:
        module(torch.tensor([[10.0, 0.1, 1.0], [-10.0, 0.1, -1.0]]))
        # |w| x rms: [10, 0.3, 2], [10, 0.05, 2]
        recompute_masks(module, masks, {"0": 4 / 6}, plan(score=Score.ACTIVATION), watching)
    assert masks["0"].tolist() == [[1, 0, 1], [1, 0, 1]]


def test_statistics_are_per_channel_of_convolutions_too() -> None:
    layer = nn.Conv2d(4, 6, 3, groups=2)
    values = per_weight(layer, torch.arange(4.0))
    assert values.shape == (6, 2, 1, 1)
    assert values[:3, :, 0, 0].tolist() == [[0.0, 1.0]] * 3
    assert values[3:, :, 0, 0].tolist() == [[2.0, 3.0]] * 3


def test_dead_weights_go_and_the_scores_stay() -> None:
    module, data = nested(), batches()
    masks = attach_masks(module)
    masks["classifier.scores"][:, 3] = 0  # nothing reads neuron 3
    masks["features.0"][2] = 0  # map 2 is constant: its bias
    images = as_input(data.images)
    expected = module(images).detach()
    removed = remove_dead_weights(module, data, Objective())
    assert removed >= 96 + 16 * 19
    assert not masks["classifier.hidden"][3].any()
    assert not masks["classifier.hidden"][:, 2 * 16 : 3 * 16].any()
    torch.testing.assert_close(module(images).detach(), expected, rtol=1e-4, atol=1e-5)


def test_the_compact_form_computes_the_same_with_fewer_channels() -> None:
    module, data = nested(), batches()
    masks = attach_masks(module)
    masks["features.0"][[0, 4]] = 0
    masks["classifier.hidden"][:, :16] = 0
    masks["classifier.hidden"][:, 4 * 16 : 5 * 16] = 0
    images = as_input(data.images[:50])
    small = compact(module, images)
    assert small.rows["features.0"].tolist() == [1, 2, 3, 5]
    assert small.module.classifier["hidden"].weight.shape == (20, 64)
    torch.testing.assert_close(small.module(images), module(images), rtol=1e-4, atol=1e-5)


def test_sharing_the_compact_form_and_expanding_it_gives_the_same_scores() -> None:
    module, data = nested(), batches()
    small = prune_and_retrain(module, data, plan(scope=Scope.GLOBAL, density=0.05, remove_dead=True, crowding=0.5))
    sharing = Sharing(
        training=SHORT, shared_values=5, codebook_format=ValueFormat.FLOAT16, bias_format=ValueFormat.INT8
    )
    share_and_finetune(small.module, data, sharing, Objective())
    small.expand(module)
    images = as_input(data.images[:50])
    torch.testing.assert_close(module(images), small.module(images), rtol=1e-4, atol=1e-5)
    for weight in weights_of(module):
        codebook = codes_and_codebook(weight)[1]
        assert codebook.size <= 6
        np.testing.assert_array_equal(codebook.astype(np.float16).astype(np.float32), codebook)
        bias = weight.bias.detach().numpy()
        np.testing.assert_array_equal(round_to_format(bias, ValueFormat.INT8), bias)


def test_modules_that_are_no_chain_keep_their_channels() -> None:
    class Residual(Nested):
        """Adds the hidden layer's input to the scores, which narrowing would break."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            features = self.features(x).flatten(1)
            scores: torch.Tensor = self.classifier["scores"](torch.relu(self.classifier["hidden"](features)))
            return scores + features[:, :10]

    module = Residual()
    attach_masks(module)["features.0"][0] = 0
    attach_masks(module)["classifier.hidden"][:, :16] = 0
    images = torch.rand(4, 1, 28, 28)
    small = compact(module, images)
    assert counts(small.module) == counts(module)
    torch.testing.assert_close(small.module(images), module(images))


def test_recipes_that_do_not_fit_the_layers_are_refused() -> None:
    with pytest.raises(DchwError, match=r"density.classifier.hiden: no such layer; did you mean 'classifier.hidden'"):
        prune_and_retrain(nested(), batches(), plan(density={"classifier.hiden": 0.1}))
    with pytest.raises(DchwError, match=r"density.classifier.hidden: missing; add it"):
        prune_and_retrain(nested(), batches(), plan(density={"features.0": 0.1}))
    with pytest.raises(DchwError, match="scope global expects one density"):
        prune_and_retrain(nested(), batches(), plan(density={"features.0": 0.1}, scope=Scope.GLOBAL))
    with pytest.raises(DchwError, match=r"shared_values.features.0: missing"):
        share(nested(), Sharing(training=SHORT, shared_values={"classifier.hidden": 3}))
    empty = nested()
    attach_masks(empty)["classifier.scores"].zero_()
    with pytest.raises(DchwError, match=r"layer .classifier.scores.: expected a weight that stays; pruning left none"):
        share(empty, Sharing(training=SHORT, shared_values=3))


def test_reused_weights_score_higher_by_the_stated_power() -> None:
    module = nn.Sequential(nn.Conv2d(1, 1, 2, bias=False), nn.Flatten(), nn.Linear(16, 1, bias=False))
    masks = attach_masks(module)
    with torch.no_grad():
        module[0].parametrizations.weight.original.fill_(1.0)
        module[2].parametrizations.weight.original.fill_(1.5)
    for reuse, convolution_stays in ((0.0, False), (0.25, True)):  # 16 output pixels: 1 x 16**0.25 = 2 > 1.5
        with watch(module) as watching:
            module(torch.rand(1, 1, 5, 5))
            global_plan = plan(scope=Scope.GLOBAL, reuse=reuse, regrow=True)
            recompute_masks(module, masks, {"0": 0.2, "2": 0.2}, global_plan, watching)
        assert bool(masks["0"].all()) is convolution_stays
