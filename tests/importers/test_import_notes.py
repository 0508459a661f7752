"""Notes of one kind are one line with a count."""

from __future__ import annotations

import torch
from torch import nn

from dchw.graph.network import Network
from dchw.importers.import_notes import MOST_NAMED, Notes


def test_a_note_that_is_said_again_stays_one_line():
    notes = Notes()
    for _ in range(3):
        notes.say("captured for one")
    assert notes.lines() == ("captured for one",)


def test_a_kind_counts_all_and_names_the_first():
    notes = Notes()
    notes.say("before")
    for number in range(MOST_NAMED + 1234):
        notes.about("layers of one kind", f"l{number}")
    notes.say("behind")
    before, line, behind = notes.lines()
    assert (before, behind) == ("before", "behind")
    assert line == "layers of one kind (1,242): l0, l1, l2, l3, l4, l5, l6, l7 and 1,234 more"


def test_weights_that_are_computed_are_one_line_for_all_layers():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList(nn.Linear(4, 4) for _ in range(12))
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            for part in self.parts:
                x = nn.functional.linear(x, part.weight * self.scale, part.bias)
            return x

    (line,) = Network.from_module(Scaled(), torch.randn(1, 4)).notes
    assert line.startswith("weights that are computed from others, which state_dict leaves out (12): ")
    assert "parts.0" in line
    assert line.endswith(" and 4 more")
