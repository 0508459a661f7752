"""Does any module become a graph that computes the same, with its layers under their own names?"""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from dchw.architectures import ARCHITECTURES, INPUT_SHAPE, build
from dchw.graph.forward import forward
from dchw.graph.network import Network, OperationKind
from dchw.quantities import DchwError
from tests.importers.modules import (
    ChunkedAttention,
    InvertedResidual,
    Nested,
    Residual,
    SequenceFirst,
    Tied,
    Transformer,
)

MODULES = {
    Nested: (3, 8, 12),
    Residual: (4, 9, 9),
    InvertedResidual: (6, 7, 7),
    Transformer: (1, 8, 8),
    ChunkedAttention: (5, 12),
    SequenceFirst: (5, 12),
    Tied: (6,),
}


@cache
def captured(module: type[nn.Module]) -> tuple[nn.Module, Network, torch.Tensor]:
    """A seeded module, its network captured on one example, and that example."""
    made = seeded(module)
    example = torch.randn(1, *MODULES[module])
    return made, Network.from_module(made, example, fold_normalisation=False), example


def seeded(module: type[nn.Module]) -> nn.Module:
    """A module with every parameter and running statistic away from its initial value."""
    torch.manual_seed(1)
    made = module()
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return made


def result(network: Network, x: torch.Tensor) -> np.ndarray:
    source = network.operations[0].name
    return forward(network, {source: x.numpy()})[network.operations[-1].name]


def agree(network: Network, module: nn.Module, x: torch.Tensor) -> None:
    expected = copy.deepcopy(module).eval()(x).detach().numpy()
    np.testing.assert_allclose(result(network, x), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("module", list(MODULES), ids=lambda m: m.__name__)
def test_the_graph_computes_what_the_module_does_at_any_batch_size(module):
    made, network, example = captured(module)
    assert network.name == module.__name__
    agree(network, made, torch.randn(3, *MODULES[module]))
    outputs = forward(network)
    assert all(outputs[op.name].shape[1:] == op.output_shape for op in network.operations)
    np.testing.assert_array_equal(network.example_inputs[network.operations[0].name], example.numpy())


@pytest.mark.parametrize("module", list(MODULES), ids=lambda m: m.__name__)
def test_weights_go_back_into_the_module(module):
    made, network, _ = captured(module)
    state = network.state_dict()
    for name, tensor in state.items():
        assert torch.equal(made.state_dict()[name], tensor), name
    owned = {f"{path}.weight" for path, part in made.named_modules() if type(part) in (nn.Linear, nn.Conv2d)}
    assert owned <= set(state)


@pytest.mark.parametrize("module", [Residual, InvertedResidual])
def test_folding_normalisation_changes_no_result_and_is_noted(module):
    made, plain, _ = captured(module)
    folded = Network.from_module(made, torch.randn(2, *MODULES[module]), fold_normalisation=True)
    agree(folded, made, torch.randn(2, *MODULES[module]))
    normalisations = [op.name for op in plain.operations if op.kind is OperationKind.NORMALISATION]
    assert normalisations
    assert not any(op.kind is OperationKind.NORMALISATION for op in folded.operations)
    assert folded.notes == (f"{len(normalisations)} batch normalisations are folded into the layers before them",)
    with pytest.raises(DchwError, match="a batch normalisation is folded into its weights"):
        folded.state_dict()


def test_a_normalisation_is_not_folded_where_the_layer_is_read_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

        def forward(self, x):
            y = self.conv(x)
            return self.bn(y) + y

    made = seeded(Twice)
    network = Network.from_module(made, torch.randn(1, 2, 3, 3), fold_normalisation=True)
    assert network.operation("bn").kind is OperationKind.NORMALISATION
    assert network.notes == ()
    agree(network, made, torch.randn(2, 2, 3, 3))


def test_outputs_that_the_module_reads_itself_are_outputs_and_not_folded_away():
    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.bn = nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4)
            self.deep, self.deep_bn = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x):
            raw = self.stem(x)
            fine = self.deep_bn(self.deep(torch.relu(self.bn(raw))))
            coarse = fine.mean((2, 3), keepdim=True)
            return {"features": [raw, fine], "pooled": coarse, "given": x}

    made = seeded(Detector)
    network = Network.from_module(made, torch.randn(1, 2, 3, 3), fold_normalisation=True)
    assert network.inner_outputs == ("x", "stem", "deep")
    assert network.outputs == ("x", "stem", "deep", "mean")
    x = torch.randn(2, 2, 3, 3)
    values, expected = forward(network, {"x": x.numpy()}), made.eval()(x)
    for name, value in zip(network.outputs, [x, *expected["features"], expected["pooled"]], strict=True):
        np.testing.assert_allclose(values[name], value.detach().numpy(), atol=1e-5)


def test_layers_bear_their_modules_names():
    names = {module: [layer.name for layer in captured(module)[1].layers] for module in MODULES}
    assert names[Nested] == ["features.0.0", "features.1", "head.classifier.1"]
    assert names[InvertedResidual] == ["expand.0", "depthwise.0", "squeeze", "excite", "project.0", "classify.2"]
    assert names[Transformer] == [
        "patch",
        "encoder.self_attn.in_proj_weight",
        "encoder.self_attn.out_proj",
        "encoder.linear1",
        "encoder.linear2",
        "attention.in_proj_weight",
        "attention.out_proj",
        "qkv",
        "head",
    ]


def test_geometry_of_grouped_depthwise_and_token_layers():
    residual = captured(Residual)[1]
    left, right = residual.layer("left").geometry, residual.layer("right").geometry
    assert (left.groups, left.in_channels, left.padding, left.dilation) == (4, 8, (1, 1), (1, 1))
    assert (right.groups, right.padding, right.dilation, right.out_size) == (8, (2, 2), (2, 2), (9, 9))
    transformer = captured(Transformer)[1]
    assert transformer.layer("encoder.linear1").geometry.output_pixels == 5
    assert transformer.layer("encoder.self_attn.in_proj_weight").geometry.out_channels == 48


def test_tied_layers_and_bare_parameters_are_named_and_noted():
    made, network, _ = captured(Tied)
    assert [(layer.name, layer.parameter) for layer in network.layers] == [
        ("encoder", "encoder.weight"),
        ("matrix", "matrix"),
    ]
    assert [(use.name, use.holder, use.bias is None) for use in network.uses] == [
        ("encoder", "encoder", False),
        ("decoder", "encoder", True),  # with a bias of its own, which is stored as it is
        ("matrix", "matrix", False),
    ]
    assert network.notes == ("stored once and used several times: encoder (2 times)",)
    assert set(network.state_dict()) == set(made.state_dict()) - {"decoder.bias"}
    assert network.coverage.parameters == sum(p.numel() for p in made.parameters())


def test_what_cannot_be_compressed_is_named_with_the_reason():
    reasons = captured(Transformer)[1].coverage.reasons
    assert reasons["token"] == reasons["positions"] == "used directly, not as the weights of a layer"
    assert reasons["norm"] == "a scale and a shift per channel, too few values to share"

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.rnn = nn.Embedding(9, 4), nn.LSTM(4, 2)  # steps where the batch should be
            self.fc, self.spare = nn.Linear(2, 2), nn.Linear(3, 3)

        def forward(self, tokens):
            return self.fc(self.rnn(self.table(tokens))[0])

    network = Network.from_module(Odd(), torch.zeros(2, 5, dtype=torch.int64))
    reasons = network.coverage.reasons
    assert reasons["table"] == "an embedding table, which is looked up, not multiplied"
    assert reasons["rnn.weight_hh_l0"] == "belongs to 'lstm', which is not computed here"
    assert reasons["spare.weight"] == "the forward pass does not read it"
    recurrent = {f"rnn.{name}" for name, _ in Odd().rnn.named_parameters()}
    assert set(reasons) == {"table", "spare.weight", "spare.bias", *recurrent}
    assert network.coverage.parameters == sum(p.numel() for p in Odd().parameters())
    assert network.coverage.share == 1 - 12 / network.coverage.parameters
    assert network.coverage.sentence().endswith("; 12 are left out (12: the forward pass does not read it)")
    assert network.layer("fc").geometry.output_pixels == 5
    with pytest.raises(DchwError, match=r"operation 'rnn' \(lstm\) has no forward pass here"):
        forward(network)


def test_the_module_is_left_as_it_was():
    made = nn.Sequential(nn.Linear(3, 3, dtype=torch.float64), nn.Dropout(), nn.MultiheadAttention(3, 1))
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    made.train()
    network = Network.from_module(nn.Sequential(*made[:2]), torch.randn(2, 3, dtype=torch.float64))
    assert network.layers[0].weight.dtype == np.float32
    assert made.training
    assert made[1].training
    assert type(made[2]) is nn.MultiheadAttention
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())
    assert made[0].weight.dtype == torch.float64


def test_parametrized_weights_are_taken_as_they_act():
    class Halved(nn.Module):
        def forward(self, weight):
            return weight * (weight > 0)

    made = nn.Sequential(nn.Linear(4, 3))
    parametrize.register_parametrization(made[0], "weight", Halved())
    network = Network.from_module(made, torch.randn(1, 4))
    assert network.layers[0].parameter == "0.weight"
    np.testing.assert_array_equal(network.layers[0].weight, made[0].weight.detach().numpy())
    assert (network.layers[0].weight >= 0).all()
    assert parametrize.is_parametrized(made[0])


def test_modules_pruned_by_torch_are_taken_as_they_act():
    made = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    prune.l1_unstructured(made[0], "weight", 0.5)
    network = Network.from_module(made, torch.randn(1, 6))
    assert np.count_nonzero(network.layers[0].weight) == 15
    assert [layer.parameter for layer in network.layers] == ["0.weight", "2.weight"]
    assert prune.is_pruned(made[0])
    expected = made(torch.ones(1, 6)).detach().numpy()
    np.testing.assert_allclose(result(network, torch.ones(1, 6)), expected, rtol=1e-5, atol=1e-6)


def test_masks_inside_the_forward_pass_are_multiplied_in():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)
            self.register_buffer("mask", torch.tensor([[1.0, 0, 0, 1]] * 3))

        def forward(self, x):
            return nn.functional.linear(x, self.fc.weight * self.mask, self.fc.bias)

    made = Masked()
    network = Network.from_module(made, torch.randn(1, 4))
    assert (network.layers[0].weight[:, 1:3] == 0).all()
    assert network.notes == (
        "weights that are computed from others, which state_dict leaves out (1): fc from fc.weight and mask",
    )
    assert network.state_dict() == {}
    agree(network, made, torch.randn(2, 4))


def test_in_place_operations_do_not_change_what_was_read_before():
    class InPlace(nn.Module):
        def forward(self, x):
            y = x * 2
            z = y + 1
            y.relu_()
            return z + y

    agree(Network.from_module(InPlace(), torch.randn(2, 5)), InPlace(), torch.randn(3, 5))


@pytest.mark.parametrize("kernel", [(2, 2), (3, 4), (4, 1)])
def test_same_padding_of_even_kernels(kernel):
    made = nn.Sequential(nn.Conv2d(2, 3, kernel, padding="same", dilation=(1, 3)))
    network = Network.from_module(made, torch.randn(1, 2, 7, 9))
    assert network.layers[0].geometry.out_size == (7, 9)
    agree(network, made, torch.randn(2, 2, 7, 9))


def test_a_module_that_allows_one_batch_size_only_is_noted():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 2)

        def forward(self, x):
            return self.fc(x.reshape(2, 6))

    network = Network.from_module(Fixed(), torch.randn(2, 2, 3))
    assert network.notes == ("captured at a batch size of 2, the only one the module allows",)
    assert network.layers[0].geometry.in_channels == 6


def test_mixing_examples_of_a_batch_becomes_other_but_geometry_stays():
    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(x - x.mean(0, keepdim=True))

    network = Network.from_module(Mixing(), torch.randn(2, 4, 3))
    assert [op.kind for op in network.operations[1:3]] == [OperationKind.OTHER, OperationKind.OTHER]
    assert network.layer("fc").geometry.output_pixels == 4
    with pytest.raises(DchwError, match="has no forward pass here"):
        forward(network)


def test_several_inputs():
    class Two(nn.Module):
        def forward(self, left, right):
            return torch.cat([left, right.flatten(1)], 1)

    network = Network.from_module(Two(), (torch.ones(1, 3), np.zeros((1, 2, 2), np.float32)))
    assert set(network.example_inputs) == {"left", "right"}
    assert forward(network)[network.operations[-1].name].tolist() == [[1, 1, 1, 0, 0, 0, 0]]
    assert network.notes == ("no operation is a linear layer or a convolution with constant weights",)


def test_the_example_is_dropped_on_request():
    network = Network.from_module(nn.Linear(3, 2), torch.ones(1, 3), keep_example=False, name="one")
    assert (network.name, dict(network.example_inputs)) == ("one", {})


def test_the_core_form_of_the_graph_is_understood_too():
    """Older versions of torch export fewer, more primitive operations; so does a full decomposition."""
    from dchw.importers.torch import capture

    original = capture._functional
    for module in (Nested, Residual):
        made, plain, example = captured(module)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(capture, "_functional", lambda program: original(program).run_decompositions())
            network = Network.from_module(made, example)
        assert [layer.geometry for layer in network.layers] == [layer.geometry for layer in plain.layers]
        assert [layer.name for layer in network.layers] == [layer.name for layer in plain.layers]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (
            lambda: Network.from_module(nn.Linear(3, 2), torch.ones(1, 4)),
            "module Linear: torch.export could not follow its forward pass on an input of shape (1, 4) (",
        ),
        (
            lambda: Network.from_module(nn.Linear(3, 2), torch.ones(0, 3)),
            "module Linear: expected an example input with a batch axis first; got shape (0, 3); give at least one ex",
        ),
        (
            lambda: Network.from_module(nn.Linear(3, 2), [1.0, 2.0, 3.0]),
            "module Linear: expected a tensor or array as example input; got list; convert it",
        ),
        (
            lambda: Network.from_module(lambda x: x, torch.ones(1, 3)),
            "module function: expected a torch.nn.Module; got function; wrap it in one",
        ),
    ],
)
def test_faults_are_one_sentence(action, message, capfd):
    with pytest.raises(DchwError) as caught:
        action()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_control_flow_on_data_is_refused_in_one_sentence():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(DchwError) as caught:
        Network.from_module(Branching(), torch.ones(1, 3))
    assert str(caught.value).endswith("remove control flow that depends on data")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "parameters"), [("lenet-300-100", 266_610), ("lenet-5", 431_080)])
def test_architectures_have_the_papers_sizes(name, parameters):
    made = build(name)
    assert sum(p.numel() for p in made.parameters()) == parameters
    network = Network.from_module(made, torch.randn(1, *INPUT_SHAPE), name=name)
    wanted = {"lenet-300-100": ["ip1", "ip2", "ip3"], "lenet-5": ["conv1", "conv2", "ip1", "ip2"]}[name]
    assert [layer.name for layer in network.layers] == wanted
    agree(network, made, torch.randn(3, *INPUT_SHAPE))


def test_an_unknown_architecture():
    assert set(ARCHITECTURES) == {"lenet-300-100", "lenet-5"}
    with pytest.raises(DchwError) as caught:
        build("lenet5")
    assert str(caught.value) == "architecture 'lenet5' is unknown; did you mean 'lenet-5'?"


class Branching(nn.Module):
    """Does another thing with an even number of examples, and something of its own with the examples' number."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.fc, self.how = nn.Linear(3, 4), how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.how == "parity" and x.shape[0] % 2 == 0:
            x = -x
        if self.how == "scaled":
            x = x / x.shape[0]
        return self.fc(x)


@pytest.mark.parametrize("how", ["parity", "scaled"])
def test_what_depends_on_the_number_of_examples_is_never_captured_for_a_stand_in(how):
    """The stand-in for the batch size is odd and large: what it would give must not pass for one example's result."""
    module, x = Branching(how).eval(), torch.randn(1, 3)
    network = Network.from_module(module, x)
    got = forward(network, {"x": x.numpy()})[network.operations[-1].name]
    np.testing.assert_allclose(got, module(x).detach().numpy(), rtol=1e-5)
    said = {"parity": "captured at a batch size of 1, the only one the module allows"}
    assert network.notes == (
        said.get(how, "what it computes depends on the number of examples: it is captured for one"),
    )


class MaskedByPlace(nn.Module):
    """A mask made anew for every example, filled in place, and dropout in place behind a view."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.dropout = nn.Linear(5, 5), nn.Dropout(0.5, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = x.new_zeros(5)
        mask[2:4] = -3.0
        steps = torch.arange(5, device=x.device)[None].expand(x.shape[0], -1).cumsum(-1)
        return self.fc(self.dropout(x.flatten(1))) + mask + steps.diff(dim=-1, prepend=steps[:, :1])


def test_constants_made_in_the_forward_pass_are_computed_not_rewritten(monkeypatch):
    monkeypatch.delattr(torch.export.ExportedProgram, "run_decompositions")
    module, x = MaskedByPlace().eval(), torch.randn(2, 5)
    network = Network.from_module(module, x[:1])
    # some versions of torch.export leave no trace of dropout
    kinds = {op.kind.value for op in network.operations} - {"identity"}
    assert kinds == {"input", "linear", "constant", "add"}
    got = forward(network, {"x": x.numpy()})[network.operations[-1].name]
    np.testing.assert_allclose(got, module(x).detach().numpy(), rtol=1e-5, atol=1e-6)
