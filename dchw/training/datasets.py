"""The images networks train on: MNIST from a folder, and scikit-learn's bundled digits, which need no download."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from dchw.extras import extras_named
from dchw.quantities import DchwError, FileFormatError, nearest

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

MNIST_SHA256 = MappingProxyType(
    {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }
)
"""The four files of the MNIST database and the SHA-256 of each, uncompressed. The gzip files once published at
yann.lecun.com/exdb/mnist, whose MD5s are those torchvision checks downloads against, unpack to these."""

_LARGEST_FILE_BYTES = 64 * 2**20
"""More than any MNIST file holds (47,040,016 bytes): an unpacked file beyond it is not one of them."""
_IDX_UINT8 = 0x08
_SIDE = 28


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Labelled grey images: uint8[n, 1, 28, 28] (0 background, 255 ink) and int64[n] classes 0..9."""

    name: str
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            if images.dtype != np.uint8 or images.ndim != 4 or labels.shape != images.shape[:1]:
                raise DchwError(
                    f"data set {self.name}, {part}: expected uint8 images [n, channels, height, width] and n labels; "
                    f"got {images.dtype} {images.shape} and {labels.shape}; reshape them"
                )


def load_dataset(name: str, folder: Path | None = None) -> Dataset:
    """A data set by name: ``mnist`` (from ``folder``) or ``digits``."""
    if name == "mnist":
        return mnist(folder)
    if name == "digits":
        return digits()
    raise DchwError(f"data set {name!r} is unknown; {nearest(name, ('mnist', 'digits'))}")


def mnist(folder: Path | None) -> Dataset:
    """The standard 60,000 training and 10,000 test images from the four IDX files in a folder, plain or ``.gz``.

    The folder, or its subfolder ``mnist``, holds the files. Every file's header and SHA-256 are checked.
    """
    found = _locate(folder)
    read = {name: read_idx(path) for name, path in found.items()}
    for name, path in found.items():
        if hashlib.sha256(_content(path)).hexdigest() != MNIST_SHA256[name]:
            raise FileFormatError(
                f"{path}: expected the original MNIST file (SHA-256 {MNIST_SHA256[name]} when unpacked); its content "
                "differs; fetch it again"
            )
    return Dataset(
        name="mnist",
        train_images=read["train-images-idx3-ubyte"][:, None],
        train_labels=read["train-labels-idx1-ubyte"].astype(np.int64),
        test_images=read["t10k-images-idx3-ubyte"][:, None],
        test_labels=read["t10k-labels-idx1-ubyte"].astype(np.int64),
    )


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """The unsigned bytes of one IDX file (``.gz`` or plain) in their shape.

    Layout (MNIST database page): two zero bytes, type 0x08, number of dimensions; each dimension as a big-endian
    uint32; the data in C order. Raises FileFormatError for everything else.
    """
    content = _content(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _IDX_UINT8 or content[3] not in (1, 3):
        raise FileFormatError(
            f"{path}: expected an IDX file of unsigned bytes with 1 or 3 dimensions (first bytes 00 00 08 01 or "
            f"00 00 08 03); got {content[:4].hex(' ') or 'an empty file'}; fetch it again"
        )
    header_bytes = 4 + 4 * content[3]
    if len(content) < header_bytes:
        raise FileFormatError(
            f"{path}: expected {header_bytes} header bytes; got {len(content)}; it is cut short, fetch it again"
        )
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", content[3], 4))
    expected = header_bytes + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise FileFormatError(
            f"{path}: its header promises {expected} bytes ({' x '.join(map(str, shape))}); got {len(content)}; "
            "fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape)


def digits(*, test_share: float = 0.2, seed: int = 0) -> Dataset:
    """scikit-learn's 1,797 bundled 8x8 digits, resized to 28x28, split into training and test images per class.

    Resizing is bilinear with half-pixel centres and edges held, grey levels 0..16 scaled to 0..255 and rounded. The
    split draws round(test_share * n) images of each class with ``seed``.
    """
    with extras_named("data set digits"):
        from sklearn.datasets import load_digits
    raw = load_digits()
    images = _resize(raw.images.astype(np.float64) * (255 / 16))
    labels = raw.target.astype(np.int64)
    random = np.random.default_rng(seed)
    is_test = np.zeros(len(labels), bool)
    for digit in range(10):
        members = np.flatnonzero(labels == digit)
        is_test[random.permutation(members)[: round(test_share * len(members))]] = True
    return Dataset(
        name="digits",
        train_images=images[~is_test],
        train_labels=labels[~is_test],
        test_images=images[is_test],
        test_labels=labels[is_test],
    )


def hold_out(data: Dataset, *, images: int = 5_000, seed: int = 0) -> Dataset:
    """The training images split into two, the held-out ones in place of the test images.

    Recipes are chosen on this split (55,000 / 5,000 for MNIST), so that the test images choose nothing.
    """
    if not 0 < images < len(data.train_labels):
        raise DchwError(
            f"data set {data.name}: expected to hold out between 1 and {len(data.train_labels) - 1} training images; "
            f"got {images}; choose a number in that range"
        )
    order = np.random.default_rng(seed).permutation(len(data.train_labels))
    kept, held = order[:-images], order[-images:]
    return Dataset(
        name=f"{data.name}, {images} training images held out",
        train_images=data.train_images[kept],
        train_labels=data.train_labels[kept],
        test_images=data.train_images[held],
        test_labels=data.train_labels[held],
    )


def _locate(folder: Path | None) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in MNIST_SHA256:
        for base in () if folder is None else (folder, folder / "mnist"):
            for path in (base / name, base / f"{name}.gz"):
                if path.is_file():
                    found.setdefault(name, path)
    missing = [name for name in MNIST_SHA256 if name not in found]
    if missing:
        listed = ", ".join(f"{name}.gz (SHA-256 unpacked {MNIST_SHA256[name]})" for name in missing)
        place = "no folder was named" if folder is None else f"{folder} lacks them"
        raise DchwError(
            f"data set mnist: expected the files {listed}; {place}; put them, unpacked or not, into a folder and name "
            "it with --data or the environment variable DCHW_DATA"
        )
    return found


def _content(path: Path) -> bytes:
    try:
        if path.suffix != ".gz":
            return path.read_bytes()
        with gzip.open(path) as packed:
            content = packed.read(_LARGEST_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise FileFormatError(f"{path}: cannot be read ({error}); fetch it again") from None
    if len(content) > _LARGEST_FILE_BYTES:
        raise FileFormatError(
            f"{path}: expected at most {_LARGEST_FILE_BYTES} unpacked bytes; got more; it is "
            "no MNIST file, fetch it again"
        )
    return content


def _resize(images: npt.NDArray[np.float64]) -> Images:
    """Bilinear 8x8 -> 28x28 for float64[n, 8, 8]; uint8[n, 1, 28, 28]."""
    side = images.shape[1]
    centres = np.clip((np.arange(_SIDE) + 0.5) * side / _SIDE - 0.5, 0, side - 1)
    low = np.minimum(centres.astype(np.int64), side - 2)
    share = centres - low
    weights = np.zeros((_SIDE, side))
    weights[np.arange(_SIDE), low] = 1 - share
    weights[np.arange(_SIDE), low + 1] += share
    large = np.einsum("yh,nhw,xw->nyx", weights, images, weights)
    resized: Images = np.rint(large).astype(np.uint8)[:, None]
    return resized
