"""Does the authors' compressed SqueezeNet see what is on a photograph, and does torch agree with every value?"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dchw.graph.forward import forward
from dchw.importers.load import load_network
from tests.oracles.torch_forward import torch_forward

datasets = pytest.importorskip("sklearn.datasets", reason="needs the extra 'demo'")

# classes of ImageNet's usual numbering that name a temple or its parts: bell cote, monastery, palace, stupa
TEMPLE = {442, 663, 698, 832}
# a round, spiky flower from above: daisy, or the sea urchin it is taken for
FLOWER = {985, 328}


def photograph(name: str) -> np.ndarray:
    """The middle square in the form the network was trained for: 227x227, blue-green-red, means subtracted.

    The means are those of Caffe's SqueezeNet training file.
    """
    image = torch.from_numpy(datasets.load_sample_image(name).astype(np.float32)).permute(2, 0, 1)[None]
    side = min(image.shape[2:])
    top, left = (image.shape[2] - side) // 2, (image.shape[3] - side) // 2
    square = image[:, :, top : top + side, left : left + side]
    scaled = torch.nn.functional.interpolate(square, (227, 227), mode="bilinear", antialias=True)
    return (scaled[:, [2, 1, 0]] - torch.tensor([104.0, 117.0, 123.0])[:, None, None]).numpy()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "classes"), [("china.jpg", TEMPLE), ("flower.jpg", FLOWER)])
def test_the_released_network_on_a_sample_photograph(name, classes):
    folder = Path(os.environ.get("DCHW_DATA", "")) / "squeezenet_deep_compression"
    if not (folder / "compressed_SqueezeNet.net").is_file():
        pytest.skip("DCHW_DATA does not name a folder with squeezenet_deep_compression")
    network = load_network(folder / "compressed_SqueezeNet.net").decompress()
    x = photograph(name)
    outputs = forward(network, {"data": x})
    expected = torch_forward(network, {"data": torch.from_numpy(x)})
    for op in network.operations:
        wanted = expected[op.name].numpy()
        np.testing.assert_allclose(outputs[op.name], wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    best = set(outputs[network.operations[-1].name].reshape(-1).argsort()[-5:].tolist())
    assert best & classes
