"""Do schedules take their exact values, and does the loop follow Adam?"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dchw.training.loop import Distillation, Objective, Training, fit
from dchw.training.pruning import Pruning
from dchw.training.schedules import cubic_density, geometric_density, learning_rate
from tests.oracles.training import adam
from tests.training.nets import SHORT, batches


def test_cubic_density_is_fast_at_first() -> None:
    # 0.1 + 0.9 * (1 - t)^3
    assert [cubic_density(t, 1.0, 0.1) for t in (0, 0.5, 1)] == [1.0, pytest.approx(0.1 + 0.9 / 8), 0.1]
    assert cubic_density(-1, 1.0, 0.1) == 1.0
    assert cubic_density(2, 1.0, 0.1) == pytest.approx(0.1)


def test_geometric_density_keeps_equal_shares() -> None:
    assert [geometric_density(t, 1.0, 1 / 16) for t in (0, 0.25, 0.5, 1)] == [1.0, 0.5, 0.25, 1 / 16]


def test_learning_rate_warms_up_and_decays_to_its_final_share() -> None:
    assert learning_rate(0, 100, 10, 0) == pytest.approx(0.1)
    assert learning_rate(50, 100, 0, 0) == pytest.approx(0.5)
    assert learning_rate(50, 100, 0, 0.2) == pytest.approx(0.6)
    assert learning_rate(100, 100, 0, 0.2) == pytest.approx(0.2)
    assert learning_rate(99, 100, 0, 0) == pytest.approx(0.5 * (1 + math.cos(0.99 * math.pi)))


def test_iterative_pruning_starts_each_span_with_less() -> None:
    plan = Pruning(training=SHORT, retraining=SHORT, density=0.1, schedule="iterative", rounds=4)
    assert plan.updates(100) == {1: 0.25, 25: 0.5, 50: 0.75, 75: 1.0}
    assert plan.density_at(1.0, 0.1) == pytest.approx(0.1)


def test_gradual_pruning_ends_with_the_last_step() -> None:
    plan = Pruning(training=SHORT, retraining=SHORT, density=0.1, update_steps=30)
    assert plan.updates(100) == {30: 0.3, 60: 0.6, 90: 0.9, 100: 1.0}


def test_fit_is_adam_with_the_scheduled_rates() -> None:
    class Bias(nn.Module):
        """Ten class scores that do not look at the image; the gradient of each is its probability minus its label."""

        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(10))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.bias.expand(len(x), 10)

    module, data = Bias(), batches(64)
    gradients: list[float] = []
    training = Training(epochs=3, learning_rate=0.1, batch_size=64, warmup_steps=2)
    fit(
        module,
        data,
        training,
        Objective(),
        stage="x",
        after_step=lambda *_: gradients.append(module.bias.grad[3].item()),
    )
    rates = [0.1 * learning_rate(step, 3, 2, 0) for step in range(3)]
    assert module.bias[3].item() == pytest.approx(adam(0.0, gradients, rates), rel=1e-5)


def test_distillation_alone_moves_towards_the_teacher() -> None:
    teacher, student = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    data = batches()
    images = data.images.float() / 255

    def distance() -> float:
        with torch.no_grad():
            return float((student(images).softmax(1) - teacher(images).softmax(1)).square().sum())

    before = distance()
    training = Training(epochs=10, learning_rate=0.003, batch_size=32)
    objective = Objective(teacher=teacher, distillation=Distillation(temperature=2, weight=1))
    fit(student, data, training, objective, stage="x")
    assert distance() < 0.1 * before
