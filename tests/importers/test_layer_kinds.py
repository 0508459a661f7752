"""Does every kind of layer come in whole: outputs as torch's, every parameter accounted for, through file and run?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import dchw
from dchw.container.saving import parse, to_bytes
from dchw.graph import recurrent as recurrent_steps
from dchw.graph.forward import forward
from dchw.graph.network import Network, OperationKind
from dchw.importers.torch import cell_rules
from dchw.quantities import DchwError
from dchw.vocabulary import Stream
from tests.planting import in_plain_python


class Applied(nn.Module):
    """A function of parts and an input."""

    def __init__(self, function: Callable, **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


def steps(m: Applied, x: torch.Tensor) -> torch.Tensor:
    """A loop over a cell, from a state of zeros."""
    zeros = x.new_zeros(x.shape[0], m.cell.hidden_size)
    state = (zeros, zeros) if isinstance(m.cell, nn.LSTMCell) else zeros
    for step in range(x.shape[1]):
        state = m.cell(x[:, step], state)
    return m.f(torch.cat(state, 1) if isinstance(state, tuple) else state)


class Gathered(nn.Module):
    """Every element from a place along axis 1 that a buffer says; the places may be fewer than the values."""

    def __init__(self, rows: int = 7, columns: int = 8) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 8)
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("places", torch.randint(0, 5, (1, rows, columns), generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).gather(1, self.places.expand(x.shape[0], -1, -1))


def recurrent(kind: type[nn.RNNBase], **options) -> Applied:
    """All outputs, and both kinds of last states where there are two."""

    def function(m: Applied, x: torch.Tensor) -> torch.Tensor:
        out, state = m.r(x if m.r.batch_first else x.transpose(0, 1))
        last = torch.cat(state, 2) if isinstance(state, tuple) else state
        first = out.transpose(0, 1) if not m.r.batch_first else out
        return m.f(first).flatten(1) + last.transpose(0, 1).flatten(1).sum(1, keepdim=True)

    width = options.get("proj_size", 6) * (2 if options.get("bidirectional") else 1)
    return Applied(function, r=kind(5, 6, **options), f=nn.Linear(width, 3))


def windows(m: Applied, x: torch.Tensor) -> torch.Tensor:
    """Swin's way: rolled, cut into windows that join the batch, normalised and mixed there, put back."""
    n = x.shape[0]
    y = torch.roll(x, (-1, -2), (1, 2))
    y = y.view(n, 2, 3, 2, 3, 4).permute(0, 1, 3, 2, 4, 5).reshape(-1, 9, 4)
    y = m.norm(y)
    q, k = m.qk(y).reshape(-1, 9, 2, 2, 2).permute(2, 0, 3, 1, 4)
    y = y + (torch.softmax(q @ k.transpose(-2, -1), -1) @ k).transpose(1, 2).reshape(-1, 9, 4)
    y = y.view(n, 2, 2, 3, 3, 4).permute(0, 1, 3, 2, 4, 5).reshape(n, 6, 6, 4)
    return m.head(torch.roll(y, (1, 2), (1, 2)))


MODULES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "conv1d": (nn.Sequential(nn.Conv1d(4, 6, 3, 2, 1, 2, groups=2), nn.ReLU(), nn.Conv1d(6, 3, 2)), (4, 17)),
    "conv1d same": (nn.Conv1d(2, 3, 4, padding="same"), (2, 9)),
    "conv3d": (nn.Conv3d(2, 4, (2, 3, 1), (1, 2, 1), (1, 1, 0), groups=2), (2, 4, 5, 6)),
    "transposed": (nn.Sequential(nn.ConvTranspose2d(4, 6, (3, 2), 2, 1, (1, 0), groups=2), nn.ReLU()), (4, 5, 6)),
    "transposed, dilated": (nn.ConvTranspose2d(3, 4, 3, (2, 1), (2, 0), dilation=2, bias=False), (3, 4, 5)),
    "transposed 1-D": (nn.Sequential(nn.Conv1d(3, 4, 3), nn.ConvTranspose1d(4, 2, 4, 3)), (3, 9)),
    "transposed 3-D": (nn.ConvTranspose3d(2, 3, 2, 2), (2, 3, 3, 2)),
    "lstm": (recurrent(nn.LSTM, num_layers=2, bidirectional=True, batch_first=True), (7, 5)),
    "lstm, steps first": (recurrent(nn.LSTM), (7, 5)),
    "lstm, projected": (recurrent(nn.LSTM, num_layers=2, bidirectional=True, batch_first=True, proj_size=2), (7, 5)),
    "lstm, projected, steps first": (recurrent(nn.LSTM, proj_size=4, bias=False), (7, 5)),
    "gru": (recurrent(nn.GRU, num_layers=2, batch_first=True, bias=False), (7, 5)),
    "gru, both ways": (recurrent(nn.GRU, bidirectional=True, batch_first=True), (4, 5)),
    "rnn": (recurrent(nn.RNN, batch_first=True), (7, 5)),
    "rnn of relu": (recurrent(nn.RNN, batch_first=True, nonlinearity="relu"), (7, 5)),
    "nearest": (nn.Sequential(nn.Conv2d(2, 3, 1), nn.Upsample(scale_factor=2)), (2, 3, 4)),
    "bilinear": (nn.Sequential(nn.Conv2d(2, 3, 1), nn.Upsample((7, 5), mode="bilinear")), (2, 3, 4)),
    "aligned": (
        nn.Sequential(nn.Conv2d(2, 3, 1), nn.Upsample(scale_factor=2.5, mode="bilinear", align_corners=True)),
        (2, 3, 4),
    ),
    "reflect": (nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode="reflect"), (2, 5, 4)),
    "replicate": (nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode="replicate"), (2, 5, 4)),
    "circular": (nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode="circular"), (2, 5, 4)),
    "pool 1-D": (nn.Sequential(nn.Conv1d(2, 3, 2), nn.MaxPool1d(3, 2, 1), nn.AvgPool1d(2)), (2, 12)),
    "pool 3-D": (
        nn.Sequential(nn.Conv3d(2, 3, 1), nn.MaxPool3d(2, 1), nn.AvgPool3d((1, 2, 3), (1, 2, 2), (0, 1, 1))),
        (2, 4, 5, 6),
    ),
    "group norm": (nn.Sequential(nn.Conv2d(2, 6, 1), nn.GroupNorm(3, 6), nn.InstanceNorm2d(6)), (2, 3, 4)),
    "prelu": (nn.Sequential(nn.Conv2d(2, 3, 1), nn.PReLU(3), nn.ELU(0.5), nn.Softplus(), nn.Mish()), (2, 3, 4)),
    "windows": (Applied(windows, norm=nn.LayerNorm(4), qk=nn.Linear(4, 8), head=nn.Linear(4, 2)), (6, 6, 4)),
    "stack": (Applied(lambda m, x: torch.stack([m.f(x), x], 2).flatten(1), f=nn.Linear(4, 4)), (3, 4)),
    "shuffle": (nn.Sequential(nn.Conv2d(2, 8, 1), nn.PixelShuffle(2)), (2, 3, 4)),
    "einsum": (
        Applied(lambda m, x: torch.einsum("bqc,bkc->bqk", m.f(x), x).softmax(-1) @ x, f=nn.Linear(4, 4)),
        (3, 4),
    ),
    "einsum of a parameter": (
        Applied(
            lambda m, x: torch.einsum("bchw,co->bohw", m.c(x), m.f.weight),
            c=nn.Conv2d(2, 3, 1),
            f=nn.Linear(5, 3, bias=False),
        ),
        (2, 4, 4),
    ),
    "einsum of a parameter before its operand": (
        Applied(
            lambda m, x: torch.einsum("oc,bchw->bohw", m.f.weight, m.c(x)),
            c=nn.Conv2d(2, 3, 1),
            f=nn.Linear(3, 5, bias=False),
        ),
        (2, 4, 4),
    ),
    "einsum over two axes": (
        Applied(
            lambda m, x: torch.einsum("bihd,bdjh->bji", m.f(x), x.permute(0, 3, 1, 2)) / 4,
            f=nn.Linear(4, 4),
        ),
        (3, 2, 4),
    ),
    "einsum over no axis": (Applied(lambda m, x: torch.einsum("bi,bj->bij", m.f(x), x), f=nn.Linear(4, 5)), (4,)),
    "einsum over two axes of a parameter": (
        Applied(
            lambda m, x: torch.einsum("bhid,odh->boi", m.c(x), m.f.weight),
            c=nn.Conv2d(2, 3, 1),
            f=nn.Conv1d(4, 5, 3, bias=False),
        ),
        (2, 6, 4),
    ),
    "lstm cell": (Applied(steps, cell=nn.LSTMCell(5, 6), f=nn.Linear(12, 3)), (3, 5)),
    "gru cell": (Applied(steps, cell=nn.GRUCell(5, 6), f=nn.Linear(6, 3)), (3, 5)),
    "rnn cell, learned state": (
        Applied(
            lambda m, x: m.f(m.cell(x[:, 1], m.cell(x[:, 0], m.start.weight.expand(x.shape[0], -1)))),
            cell=nn.RNNCell(5, 6),
            start=nn.Linear(6, 1, bias=False),
            f=nn.Linear(6, 3),
        ),
        (2, 5),
    ),
    "rnn cell": (Applied(steps, cell=nn.RNNCell(5, 6, bias=False), f=nn.Linear(6, 3)), (3, 5)),
    "rnn cell of relu": (Applied(steps, cell=nn.RNNCell(5, 6, nonlinearity="relu"), f=nn.Linear(6, 3)), (1, 5)),
    "gather, fixed places": (Gathered(), (5, 6)),
    "gather, fixed places, fewer": (Gathered(2, 4), (5, 6)),
    "gather, computed places": (
        Applied(lambda m, x: m.f(x).gather(1, x.abs().to(torch.int64).clamp(max=2)[:, :, 1:3]), f=nn.Linear(4, 5)),
        (3, 4),
    ),
    "cast to truth": (
        Applied(lambda m, x: m.f(x) * x.to(torch.int64).to(torch.bool) + x.to(torch.bool), f=nn.Linear(4, 4)),
        (3, 4),
    ),
    "quotient": (Applied(lambda m, x: m.f(x) / (1 + x.pow(2).sum(-1, keepdim=True)), f=nn.Linear(4, 4)), (3, 4)),
    "repeat": (Applied(lambda m, x: m.f(x).mean(1, keepdim=True).expand(-1, 3, -1) * x, f=nn.Linear(4, 4)), (3, 4)),
}


def made(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    module, shape = MODULES[name]
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return module.eval(), torch.randn(2, *shape)


def largest_difference(network: Network, module: nn.Module, x: torch.Tensor) -> float:
    """Between the two outputs, relative to the largest value."""
    out = forward(network, {network.operations[0].name: x.numpy()})[network.operations[-1].name]
    expected = module(x).detach().numpy()
    assert out.shape == expected.shape
    return float(np.abs(out - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", MODULES)
def test_outputs_equal_those_of_torch_and_every_parameter_is_there(name: str) -> None:
    module, x = made(name)
    network = Network.from_module(module, x)
    assert not [op.attributes for op in network.operations if op.kind is OperationKind.OTHER]
    assert largest_difference(network, module, x) < 1e-5
    assert network.coverage.share == 1.0
    again = "stored once and used several times: cell."
    assert [note for note in network.notes if not note.startswith(again)] == []


@pytest.mark.parametrize("name", MODULES)
def test_the_simulated_outputs_are_those_of_the_decoded_weights(name: str) -> None:
    """Through file, packing and run; what torch computes with the shared weights is what comes out."""
    module, x = made(name)
    compressed = parse(to_bytes(dchw.compress(Network.from_module(module, x), dchw.Recipe(codebook_bits=8))))
    run = dchw.simulate(compressed, "phone-lpddr5x", batch=2)
    module.load_state_dict(compressed.decompress().state_dict(), strict=False)
    expected = module(x).detach().numpy()
    np.testing.assert_allclose(
        next(iter(run.outputs.values())), expected, rtol=1e-4, atol=1e-5 * float(np.abs(expected).max())
    )


@pytest.mark.parametrize("name", ["lstm", "lstm, projected", "gru", "rnn"])
def test_a_recurrent_layer_reads_its_weights_in_every_step(name: str) -> None:
    module, x = made(name)
    run = dchw.simulate(dchw.compress(Network.from_module(module, x)), "phone-lpddr5x", "dense-fp32")
    work = {stage.layer.name: stage.layer for stage in run.workload.stages}
    steps = MODULES[name][1][0]
    assert work["r.weight_hh_l0"].tiling.passes == steps
    assert work["r.weight_ih_l0"].tiling.passes == 1  # the products with the inputs wait for nothing
    assert any("worked step by step" in note for note in run.workload.notes)


@pytest.mark.parametrize("steps", [3, 30])
def test_recurrent_weights_come_once_where_they_fit_and_in_every_step_where_they_do_not(steps: int) -> None:
    """W_hh of fp16 takes 4 * 32 * 32 * 2 = 8,192 bytes, W_ih half of that."""
    module = Applied(lambda m, x: m.r(x)[0], r=nn.LSTM(16, 32, batch_first=True)).eval()
    network = Network.from_module(module, torch.randn(1, steps, 16))
    compressed = dchw.compress(network)
    machine = dchw.machine("phone-lpddr5x")
    tight = machine.replace("weight_sram.size_bytes", "8 KiB")

    def weights_read(on: object) -> int:
        return dchw.simulate(compressed, on, "dense-fp16").stream_bytes()[Stream.WEIGHTS]

    assert weights_read(machine) == 4096 + 8192
    assert weights_read(tight) == 4096 + 8192 * steps


class Stated(nn.Module):
    """A projected LSTM that is given its first states."""

    def __init__(self) -> None:
        super().__init__()
        self.r = nn.LSTM(5, 6, batch_first=True, proj_size=2)

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        out, (last, cell) = self.r(x, (h.transpose(0, 1), c.transpose(0, 1)))
        return torch.cat([out.flatten(1), last[0], cell[0]], 1)


def test_a_projected_state_and_a_cell_state_of_other_sizes_are_read() -> None:
    torch.manual_seed(1)
    module, given = Stated().eval(), (torch.randn(2, 7, 5), torch.randn(2, 1, 2), torch.randn(2, 1, 6))
    network = Network.from_module(module, given)
    inputs = [op.name for op in network.operations if op.kind is OperationKind.INPUT]
    out = forward(network, {name: value.numpy() for name, value in zip(inputs, given, strict=True)})
    expected = module(*given).detach().numpy()
    np.testing.assert_allclose(out[network.operations[-1].name], expected, rtol=1e-5, atol=1e-6)


def test_a_projection_must_be_a_linear_layer() -> None:
    given = torch.randn(2, 7, 5), torch.randn(2, 1, 2), torch.randn(2, 1, 6)
    operations = tuple(
        dataclasses.replace(op, attributes={**op.attributes, "projection": "x"}) if op.projection else op
        for op in Network.from_module(Stated().eval(), given).operations
    )
    with pytest.raises(dchw.DchwError, match=r"the projection of 'r\.weight_hh_l0' is 'x', which is no linear layer"):
        Network(name="n", operations=operations)


def test_steps_that_lie_where_the_batch_should_are_not_mistaken_for_it() -> None:
    network = Network.from_module(nn.LSTM(3, 4).eval(), torch.randn(2, 5, 3))
    others = [op.attributes["target"] for op in network.operations if op.kind is OperationKind.OTHER]
    assert others[0] == "lstm"
    assert network.coverage.share == 1.0


def test_a_table_is_stored_whole_and_read_by_the_row() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Embedding(1000, 16), nn.Linear(16, 4)).eval()
    tokens = torch.tensor([[3, 999, 3]])
    network = Network.from_module(module, tokens)
    assert largest_difference(network, module, tokens) < 1e-6
    assert network.coverage.reasons == {"0": "an embedding table, which is looked up, not multiplied"}
    (row,) = [row for row in network.coverage.rows if row.name == "0"]
    assert (row.parameters, row.read) == (16_000, 3 * 16)
    compressed = dchw.compress(network)
    assert len(to_bytes(compressed)) > 4 * 16_000
    run = dchw.simulate(compressed, "phone-lpddr5x", "dense-fp32")
    assert 4 * (3 * 16 + 16 * 4) <= run.dram_read_bytes < 4 * 1000


def test_a_table_tied_to_a_layer_is_stored_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(50, 8), nn.Linear(8, 50, bias=False)
            self.head.weight = self.table.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.table(x))

    module, tokens = Tied().eval(), torch.tensor([[3, 49, 3]])
    network = Network.from_module(module, tokens)
    assert largest_difference(network, module, tokens) < 1e-6
    assert (network.coverage.parameters, [layer.name for layer in network.layers]) == (400, ["head"])
    loaded = parse(to_bytes(dchw.compress(network, dchw.Recipe(density=0.5))))
    dense = loaded.decompress()
    module.load_state_dict({"table.weight": dense.state_dict()["head.weight"]}, strict=False)
    assert largest_difference(dense, module, tokens) < 1e-6


def test_a_module_used_again_is_stored_once_and_fetched_again() -> None:
    class Again(nn.Module):
        def __init__(self, times: int) -> None:
            super().__init__()
            self.l, self.times = nn.Linear(64, 64), times

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(self.times):
                x = functional.relu(self.l(x))
            return x

    torch.manual_seed(0)
    one, four = (dchw.compress(Network.from_module(Again(n), torch.randn(1, 64))) for n in (1, 4))
    assert [layer.name for layer in four.layers] == ["l"]
    assert [use.name for use in four.uses] == ["l", "l_1", "l_2", "l_3"]
    assert four.graph.notes == ("stored once and used several times: l (4 times)",)
    assert len(to_bytes(four)) < len(to_bytes(one)) + 200
    runs = [dchw.simulate(network, "phone-lpddr5x", "dense-fp32") for network in (one, four)]
    assert runs[1].dram_read_bytes > 3.5 * runs[0].dram_read_bytes
    module = Again(4)
    module.load_state_dict(four.decompress().state_dict())
    x = torch.from_numpy(np.array(four.graph.example_inputs["x"]))
    np.testing.assert_allclose(runs[1].outputs["relu_3"], module(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(dchw.ConfigError, match=r"recipe: density\.l_1: no such layer"):
        dchw.compress(Network.from_module(Again(2), torch.randn(1, 64)), dchw.Recipe(density={"l": 1.0, "l_1": 0.1}))


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("lstm", "sigmoid(forget) * c", "sigmoid(leave) * c"),
        ("lstm, projected", "else project(h)", "else project(2 * h)"),
        ("gru", "(1 - z) * n + z * h", "z * n + (1 - z) * h"),
        ("rnn of relu", "np.maximum(total, 0)", "np.tanh(total)"),
    ],
)
def test_a_fault_in_a_step_is_seen(monkeypatch: pytest.MonkeyPatch, name: str, right: str, wrong: str) -> None:
    module, x = made(name)
    network = Network.from_module(module, x)
    faulty = in_plain_python(recurrent_steps, right, wrong)["steps"]
    monkeypatch.setattr("dchw.graph.forward.steps", faulty)
    assert largest_difference(network, module, x) > 1e-3


@pytest.mark.parametrize("axis", [1, 2])
def test_given_places_are_gathered_and_wrong_ones_refused(axis: int) -> None:
    """Places that are an input of the network, through file and run."""

    class Picks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 8)

        def forward(self, x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
            return self.layer(x).gather(axis, places)

    torch.manual_seed(0)
    module, x, places = Picks(), torch.randn(3, 5, 6), torch.randint(0, 5, (3, 4, 7))
    compressed = parse(to_bytes(dchw.compress(Network.from_module(module, (x, places)))))
    module.load_state_dict(compressed.decompress().state_dict())
    expected = module(x, places).detach().numpy()
    run = dchw.simulate(compressed, "phone-lpddr5x", batch=3)
    np.testing.assert_allclose(next(iter(run.outputs.values())), expected, rtol=1e-5, atol=1e-6)
    wrong = np.full((3, 4, 7), 9.0) - 8.0 * np.eye(4, 7)
    with pytest.raises(DchwError, match=r"picks places 1 to 9 of an axis of [58]; give inputs that number its"):
        forward(compressed.graph, {"x": x.numpy(), "places": wrong})


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.f(x).gather(0, x.abs().to(torch.int64).clamp(max=1)),
        lambda m, x: m.f(x).transpose(0, 1).gather(0, m.f(x).abs().to(torch.int64).clamp(max=1)),
    ],
    ids=["of other examples", "examples elsewhere"],
)
def test_examples_that_are_gathered_from_one_another_are_not_computed(function: Callable) -> None:
    network = Network.from_module(Applied(function, f=nn.Linear(4, 4)), torch.randn(3, 3, 4))
    assert network.operations[-1].attributes["target"] == "gather"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16])
@pytest.mark.parametrize("wide", [torch.float32, torch.int64])
def test_casts_to_short_whole_numbers_are_not_computed(dtype: torch.dtype, wide: torch.dtype) -> None:
    def function(m: Applied, x: torch.Tensor) -> torch.Tensor:
        return m.f(x).to(wide).to(dtype).to(torch.float32)

    network = Network.from_module(Applied(function, f=nn.Linear(4, 4)), torch.randn(3, 4))
    assert [op.kind for op in network.operations].count(OperationKind.OTHER) == 1


def test_a_fault_in_gathering_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = made("gather, fixed places, fewer")
    network = Network.from_module(module, x)
    right = np.take_along_axis
    monkeypatch.setattr("dchw.graph.forward.np.take_along_axis", lambda v, p, axis: right(v, p[:, ::-1], axis))
    assert largest_difference(network, module, x) > 1e-3


@pytest.mark.parametrize(
    ("name", "method", "wrong"),
    [
        ("lstm cell", "apply", lambda right: lambda step, f, x: right(step, "tanh", x)),
        ("gru cell", "subtract", lambda right: lambda step, x, y: right(step, y, x)),
        ("rnn cell", "add", lambda right: lambda step, x, y: right(step, x, x)),
    ],
)
def test_a_fault_in_a_cell_is_seen(monkeypatch: pytest.MonkeyPatch, name: str, method: str, wrong: Callable) -> None:
    module, x = made(name)
    monkeypatch.setattr(cell_rules._Step, method, wrong(getattr(cell_rules._Step, method)))
    assert largest_difference(Network.from_module(module, x), module, x) > 1e-3
