"""Do random changes stay within their limits and repeat with their seed?"""

from __future__ import annotations

import torch

from dchw.training.augmentation import Augmentation, augment
from dchw.training.batches import ImageBatches
from dchw.training.loop import Training
from tests.training.nets import batches


def picture() -> torch.Tensor:
    image = torch.zeros(200, 1, 28, 28, dtype=torch.uint8)
    image[:, :, 12:16, 10:18] = 255
    return image


def centre(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    ink = images.double().squeeze(1)
    total = ink.sum((1, 2))
    return (ink.sum(2) * torch.arange(28)).sum(1) / total, (ink.sum(1) * torch.arange(28)).sum(1) / total


def test_no_change_returns_the_images() -> None:
    images = picture()
    assert augment(images, Augmentation(), torch.Generator()) is images


def test_shifts_move_ink_by_at_most_so_many_pixels_each_way() -> None:
    moved = augment(picture(), Augmentation(shift_pixels=3), torch.Generator().manual_seed(0))
    for before, after in zip(centre(picture()), centre(moved), strict=True):
        distance = (after - before).abs()
        assert distance.max() <= 3.02
        assert distance.max() > 2.8
    assert (moved.sum((1, 2, 3)) - picture().sum((1, 2, 3))).abs().max() < 200  # ink neither lost nor made


def test_rotation_keeps_the_middle_and_the_amount_of_ink() -> None:
    turned = augment(picture(), Augmentation(rotation_degrees=90), torch.Generator().manual_seed(0))
    for before, after in zip(centre(picture()), centre(turned), strict=True):
        assert (after - before).abs().max() < 0.1
    assert (turned.double().sum((1, 2, 3)) / picture().double().sum((1, 2, 3)) - 1).abs().max() < 0.05


def test_equal_seeds_give_equal_images() -> None:
    change = Augmentation(shift_pixels=1, rotation_degrees=5, scale=0.1, shear=0.1)
    one, same, other = (augment(picture(), change, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_copies_are_made_once_and_used_in_turn() -> None:
    data = batches(64)
    training = Training(epochs=9, learning_rate=0.1, augmentation=Augmentation(shift_pixels=1), augmented_copies=2)
    images = [sorted_images(data, epoch, training) for epoch in range(4)]
    assert torch.equal(images[0], images[2])
    assert torch.equal(images[1], images[3])
    assert not torch.equal(images[0], images[1])
    fresh = training.model_copy(update={"augmented_copies": 0})
    assert not torch.equal(sorted_images(data, 0, fresh), sorted_images(data, 1, fresh))


def test_copies_are_drawn_again_as_they_were_after_an_interruption() -> None:
    training = Training(epochs=9, learning_rate=0.1, augmentation=Augmentation(shift_pixels=1), augmented_copies=2)
    whole, first = batches(64), batches(64)
    expected = [sorted_images(whole, epoch, training) for epoch in range(6)]
    for epoch in range(3):
        sorted_images(first, epoch, training)
    resumed = batches(64, seed=5)
    resumed.restore(first.state())
    for epoch in range(3, 6):
        assert torch.equal(sorted_images(resumed, epoch, training), expected[epoch])


def sorted_images(data: ImageBatches, epoch: int, training: Training) -> torch.Tensor:
    """The images that an epoch shows, in an order that does not depend on the epoch's own."""
    images = torch.cat([batch.inputs.flatten(1) for batch in data.epoch(epoch, training, None)])
    return images[sorted(range(len(images)), key=lambda i: images[i].tolist())]
