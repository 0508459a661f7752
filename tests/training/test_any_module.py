"""The networks of ``models/any_module``: do shifted batches hold the images that they say, moved no further?"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

SOURCE = Path(__file__).parents[2] / "models" / "any_module" / "networks.py"
BEGUN = 300
"""Images that are not held out: two whole batches of 128 and some that the third lacks."""


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, its data one bright pixel an image: its brightness is the image's number from 1, held-out ones' 0."""
    specification = importlib.util.spec_from_file_location("any_module_networks", SOURCE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    images = np.zeros((BEGUN + module.HELD_OUT_IMAGES, 1, 28, 28), np.uint8)
    images[:BEGUN, 0, 14, 14] = 1 + np.arange(BEGUN) % 250
    labels = np.where(np.arange(len(images)) < BEGUN, np.arange(len(images)) % 10, -1)
    monkeypatch.setenv("DCHW_DATA", "unused")
    monkeypatch.setattr(module, "mnist", lambda path: SimpleNamespace(train_images=images, train_labels=labels))
    return module


def test_shifted_batches_hold_no_held_out_image_and_move_the_others_by_up_to_two_pixels(networks: ModuleType) -> None:
    batches = networks.shifted_batches()
    assert len(batches) == 2
    torch.manual_seed(1)
    places: set[tuple[int, int]] = set()
    for _ in range(3):
        for images, labels in batches:
            assert images.shape == (128, 1, networks.SIDE, networks.SIDE)
            assert int(labels.min()) >= 0
            bright = images.flatten(1)
            numbers = (bright.sum(1) * 4 * 255).round().long() - 1  # halving took the mean of four pixels
            assert torch.equal(numbers % 10, labels)
            places |= {divmod(int(at), networks.SIDE) for at in bright.argmax(1)}
    # the pixel's rows and columns are 12 to 16 once it is moved, 6 to 8 once the image is halved
    assert places == {(row, column) for row in (6, 7, 8) for column in (6, 7, 8)}


def test_equal_seeds_give_equal_shifted_batches_and_every_epoch_others(networks: ModuleType) -> None:
    batches = networks.shifted_batches()
    torch.manual_seed(3)
    first, second = (torch.cat([images for images, _ in batches]) for _ in range(2))
    torch.manual_seed(3)
    again = torch.cat([images for images, _ in batches])
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
