"""Are images read exactly, and is every damaged or missing file named?"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from dchw.quantities import DchwError, FileFormatError
from dchw.training.datasets import MNIST_SHA256, Dataset, digits, hold_out, load_dataset, mnist, read_idx
from tests.oracles.training import bilinear_resize, idx_bytes


def test_idx_reads_plain_and_gzip(tmp_path: Path) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    content = idx_bytes((2, 3, 4), pixels.tobytes())
    (tmp_path / "plain").write_bytes(content)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(content))
    for name in ("plain", "packed.gz"):
        np.testing.assert_array_equal(read_idx(tmp_path / name), pixels)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "an empty file; fetch it again"),
        (b"\0\0\x08", "got 00 00 08; fetch it again"),
        (b"\0\0\x0d\x03" + bytes(12), "got 00 00 0d 03; fetch it again"),
        (b"\0\0\x08\x09" + bytes(36), "got 00 00 08 09; fetch it again"),
        (b"\0\0\x08\x03\0\0\0\x01", "expected 16 header bytes; got 8; it is cut short"),
        (idx_bytes((2, 2, 2), bytes(7)), r"promises 24 bytes \(2 x 2 x 2\); got 23"),
        (idx_bytes((2,), bytes(3)), r"promises 10 bytes \(2\); got 11"),
        (idx_bytes((2**32 - 1, 2**32 - 1, 2**32 - 1), b""), "promises 79228162458924105385300197391 bytes"),
    ],
)
def test_idx_names_what_is_wrong(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=complaint):
        read_idx(path)


def test_damaged_gzip_is_an_error_of_ours(tmp_path: Path) -> None:
    whole = gzip.compress(idx_bytes((3,), bytes(3)))
    for number, content in enumerate((b"no gzip", whole[:-9], whole[:12] + b"\xff" + whole[13:])):
        path = tmp_path / f"{number}.gz"
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match="cannot be read"):
            read_idx(path)


def test_missing_mnist_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(DchwError) as caught:
        mnist(tmp_path)
    message = str(caught.value)
    assert all(name in message and checksum in message for name, checksum in MNIST_SHA256.items())
    assert f"{tmp_path} lacks them; put them, unpacked or not, into a folder" in message
    assert "--data or the environment variable DCHW_DATA" in message
    with pytest.raises(DchwError, match="no folder was named"):
        load_dataset("mnist")


def test_a_file_that_is_not_mnists_own_is_refused(tmp_path: Path) -> None:
    for name in MNIST_SHA256:
        shape = (1, 28, 28) if "images" in name else (1,)
        (tmp_path / name).write_bytes(idx_bytes(shape, bytes(int(np.prod(shape)))))
    with pytest.raises(FileFormatError, match="expected the original MNIST file"):
        mnist(tmp_path)


def test_unknown_data_set_names_the_nearest() -> None:
    with pytest.raises(DchwError, match="data set 'mnits' is unknown; did you mean 'mnist'"):
        load_dataset("mnits")


def test_mnist_from_a_folder() -> None:
    if "DCHW_DATA" not in os.environ:
        pytest.skip("needs MNIST: name its folder in DCHW_DATA")
    data = mnist(Path(os.environ["DCHW_DATA"]))
    assert data.train_images.shape == (60_000, 1, 28, 28)
    assert data.test_images.shape == (10_000, 1, 28, 28)
    # counts of the ten digits among the test labels, as published with the data
    assert np.bincount(data.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_digits_are_resized_and_split_per_class() -> None:
    from sklearn.datasets import load_digits

    data, again = digits(), digits()
    np.testing.assert_array_equal(data.train_images, again.train_images)
    assert len(data.train_labels) + len(data.test_labels) == 1797
    raw = load_digits()
    for digit in range(10):
        members = int((raw.target == digit).sum())
        assert int((data.test_labels == digit).sum()) == round(0.2 * members)
    everything = {image.tobytes() for image in (*data.train_images, *data.test_images)}
    for image in raw.images[:5]:
        assert bilinear_resize(image * (255 / 16), 28).astype(np.uint8).tobytes() in everything
    assert not np.array_equal(data.test_images, digits(seed=1).test_images)


def test_held_out_images_come_from_training_and_leave_it() -> None:
    data = digits()
    held = hold_out(data, images=100)
    assert (len(held.train_labels), len(held.test_labels)) == (len(data.train_labels) - 100, 100)
    both = np.concatenate([held.train_images, held.test_images])
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in data.train_images)
    with pytest.raises(DchwError, match="expected to hold out between 1 and"):
        hold_out(data, images=10**6)


def test_dataset_refuses_shapes_that_do_not_match() -> None:
    images = np.zeros((2, 1, 4, 4), np.uint8)
    with pytest.raises(DchwError, match="data set x, test: expected uint8 images"):
        Dataset(
            name="x",
            train_images=images,
            train_labels=np.zeros(2, np.int64),
            test_images=images,
            test_labels=np.zeros(3, np.int64),
        )
