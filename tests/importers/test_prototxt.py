"""Is Caffe's text format understood, or refused with file and line?"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dchw.graph.forward import forward
from dchw.graph.geometry import Geometry
from dchw.graph.network import OperationKind
from dchw.importers.caffe_text import Message, parse
from dchw.importers.geometry_tables import network_from_table
from dchw.importers.prototxt import network_from_prototxt
from dchw.quantities import DchwError, FileFormatError

SMALL = """
name: "Tiny" # a comment { with marks
input: "data"  input_shape { dim: 1 dim: 3, dim: 9; dim: 11 }
layer { name: 'c1' type: "Convolution" bottom: "data" top: "c1"
  convolution_param { num_output: 4 kernel_h: 3 kernel_w: 5 stride: 2 stride: 1 pad: 1 dilation: 1 bias_term: false
    weight_filler { type: "gaussian" std: 1e-2 } } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "n1" type: "LRN" bottom: "c1" top: "n1" lrn_param: { local_size: 3 alpha: 0.5 } }
layer { name: "p1" type: "Pooling" bottom: "n1" top: "p1" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "p2" type: "Pooling" bottom: "n1" top: "p2" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "g2" type: "Pooling" bottom: "p1" top: "g2" pooling_param { pool: MAX global_pooling: true } }
layer { name: "sum" type: "Eltwise" bottom: "c1" bottom: "n1" top: "sum" }
layer { name: "cat" type: "Concat" bottom: "sum" bottom: "c1" top: "cat" }
layer { name: "s" type: "Sigmoid" bottom: "cat" top: "s" }
layer { name: "leaky" type: "ReLU" bottom: "g2" top: "g2" relu_param { negative_slope: 0.1 } }
layer { name: "drop" type: "Dropout" bottom: "s" top: "s" dropout_param { dropout_ratio: 0.5 } }
layer { name: "train" type: "Dropout" bottom: "s" top: "s" include { phase: TRAIN } }
layer { name: "ip" type: "InnerProduct" bottom: "s" top: "ip" inner_product_param { num_output: 7 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" include { phase: TEST } }
layer { name: "acc" type: "Accuracy" bottom: "ip" bottom: "label" top: "acc" }
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "net.prototxt"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_small_network(tmp_path):
    network = network_from_prototxt(written(tmp_path, SMALL))
    assert (network.name, network.notes) == ("Tiny", ("graph from net.prototxt, weights are zeros",))
    names = ["data", "c1", "r1", "n1", "p1", "p2", "g2", "sum", "cat", "s", "leaky", "drop", "ip.flatten", "ip", "loss"]
    assert [op.name for op in network.operations] == names
    c1, ip = network.layers
    assert c1.geometry == Geometry(
        in_channels=3, out_channels=4, kernel=(3, 5), stride=(2, 1), padding=(1, 1), in_size=(9, 11)
    )
    assert c1.bias is None
    assert ip.bias.shape == (7,)
    assert ip.geometry.in_channels == 2 * 4 * 5 * 9
    assert network.operation("sum").inputs == ("r1", "n1")  # in place: what ReLU wrote
    assert network.operation("p1").output_shape == (4, 3, 5)
    assert network.operation("p2").output_shape == (4, 3, 5)  # Caffe rounds up
    outputs = forward(network, {"data": np.ones((2, 3, 9, 11))})
    assert all(outputs[op.name].shape[1:] == op.output_shape for op in network.operations)


def test_inputs_in_all_forms(tmp_path):
    relu = 'layer { name: "r" type: "ReLU" bottom: "x" top: "x" }'
    forms = (
        'input: "x" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4',
        'input: "x" input_shape { dim: 1 dim: 2 dim: 3 dim: 4 }',
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } } }',
        'layer { name: "x" type: "Data" top: "x" top: "label" }',
    )
    for form in forms:
        network = network_from_prototxt(written(tmp_path, f"{form}\n{relu}"), input_shape=(2, 3, 4), name="mine")
        assert (network.input_shape, network.name) == ((2, 3, 4), "mine")


def test_the_first_format(tmp_path):
    text = """
    input: "x" input_dim: 1 input_dim: 2 input_dim: 5 input_dim: 5
    layers { name: "c" type: CONVOLUTION bottom: "x" top: "c"
      convolution_param { num_output: 2 kernel_size: 1 group: 2 } }
    layers { name: "r" type: RELU bottom: "c" top: "c" }
    """
    assert network_from_prototxt(written(tmp_path, text)).layers[0].geometry.groups == 2


def test_normalisation_within_channels_has_no_forward_pass(tmp_path):
    text = SMALL.replace("alpha: 0.5", "norm_region: WITHIN_CHANNEL")
    assert network_from_prototxt(written(tmp_path, text)).operation("n1").kind is OperationKind.OTHER


def test_the_published_squeezenet():
    folder = os.environ.get("DCHW_DATA")
    if folder is None or not (Path(folder) / "squeezenet_deep_compression").is_dir():
        pytest.skip("DCHW_DATA does not name a folder with squeezenet_deep_compression")
    network = network_from_prototxt(Path(folder) / "squeezenet_deep_compression" / "SqueezeNet_deploy.prototxt")
    table = network_from_table("squeezenet_v1_0")
    assert len(network.layers) == 26
    assert [layer.geometry for layer in network.layers] == [layer.geometry for layer in table.layers]
    assert network.layers[-1].name == "conv_final"
    assert network.layers[-1].geometry.padding == (1, 1)
    assert network.operation("pool_final").output_shape == (1000, 1, 1)


def test_values_of_the_text_format():
    tree = parse('a: -3 a: 2.5e1 b: true c: MAX d { e: "x\\"y" } # end', "f")
    assert tree.all("a") == [-3, 25.0]
    assert tree.one("b", bool) is True
    assert tree.one("c", str) == "MAX"
    assert tree.message("d").one("e", str) == 'x"y'
    assert tree.message("missing").one("x", int, 5) == 5
    assert isinstance(tree.message("d"), Message)


HEAD = 'input: "x" input_dim: 1 input_dim: 2 input_dim: 5 input_dim: 5\n'
CONV = 'layer { name: "c" type: "Convolution" bottom: "x" top: "c"\nconvolution_param { %s } }'
FAULTS = [
    ("layer {\n name: 'a'\n", "line 1: '{' is not closed before the file ends; add '}'"),
    ("layer { }\n}", "line 2: '}' closes nothing; remove it"),
    ("name:", "line 1: 'name' has no value; write 'key: value'"),
    ("layer { name: }", "line 1: expected a value for 'name'; got '}'; write 'key: value'"),
    ("name \n 5", "line 2: expected ':' or '{' after 'name'; got '5'; correct it"),
    (": 5", "line 1: expected a key before ':'; remove it or write the key"),
    ("{ }", "line 1: expected a key before '{'; write the message's name"),
    ("a: 1\nb: $", "line 2: unexpected character '$'; remove it"),
    ('a: "open\n', "line 1: unexpected character '\"'; remove it"),
    ("", "line 1: expected an input and layers; got none; give a deploy.prototxt"),
    ("layer: 5", "line 1: expected layer {...}; got 5; correct it"),
    ('input: "x"', "line 1: expected four input_dim or one input_shape for each of 1 inputs; add them"),
    (
        'input: "x" input_dim: 1 input_dim: 0 input_dim: 5 input_dim: 5',
        "line 1: expected batch, channels, height and width of input 'x'; got [1, 0, 5, 5]; correct them",
    ),
    (HEAD + "layer { name: 'a' }", 'line 2: expected a type in this layer; got none; add type: "..."'),
    (
        HEAD + "layer { type: 'ReLU' bottom: 'x' }",
        'line 2: expected a name in this layer; got none; add name: "..."',
    ),
    (
        HEAD + "layer { name: 'a' type: 'Convolutoin' }",
        "line 2: layers of type 'Convolutoin' are not known; did you mean 'Convolution'?",
    ),
    (HEAD + "layer { name: 'a' type: 'ReLU' }", "line 2: expected 1 bottom here; got 0; correct them"),
    (HEAD + "layer { name: 'a' type: 'ReLU' bottom: 'xx' }", "line 2: nothing gives blob 'xx'; did you mean 'x'?"),
    (
        HEAD + CONV % "num_output: 4 kernel_size: 3 strid: 2",
        "line 3: unknown key 'strid'; did you mean 'stride'?",
    ),
    (HEAD + CONV % "kernel_size: 3", "line 3: expected num_output of at least 1; got None; correct it"),
    (
        HEAD + CONV % "num_output: 2.5 kernel_size: 3",
        "line 3: expected a whole number for num_output; got 2.5; correct it",
    ),
    (
        HEAD + CONV % "num_output: 2 num_output: 3 kernel_size: 3",
        "line 3: expected num_output once; got it 2 times; keep one",
    ),
    (
        HEAD + CONV % "num_output: 2",
        "line 3: expected one or two whole numbers of at least 1 for kernel_size; got [0]; correct them",
    ),
    (
        HEAD + CONV % "num_output: 2 kernel_size: 3 kernel_h: 3",
        "line 3: expected either kernel_size or both kernel_h and kernel_w; got a mixture; keep one",
    ),
    (
        HEAD + CONV % "num_output: 2 kernel_size: 9",
        "line 2: layer 'c': geometry: the kernel (9, 9) does not fit the padded input (5, 5); enlarge the input",
    ),
    (
        HEAD + "layer { name: 'p' type: 'Pooling' bottom: 'x' pooling_param { pool: STOCHASTIC kernel_size: 2 } }",
        "line 2: pooling 'STOCHASTIC' is not known; use one of 'AVE', 'MAX'",
    ),
    (
        HEAD + "layer { name: 'd' type: 'Data' top: 'd' }",
        "line 2: a data layer does not tell its shape; give input_shape=(channels, height, width)",
    ),
    (
        HEAD + "layer { name: 'x' type: 'ReLU' bottom: 'x' }",
        "line 2: 'x' occurs twice; give one of them another name",
    ),
    (
        HEAD + "layer { name: 'e' type: 'Eltwise' bottom: 'x' bottom: 'x' eltwise_param { operation: MAX } }",
        "line 2: element-wise 'MAX' is not known; use one of 'PROD', 'SUM'",
    ),
]


@pytest.mark.parametrize(("text", "message"), FAULTS, ids=[message for _, message in FAULTS])
def test_faults_name_file_and_line(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(FileFormatError) as caught:
        network_from_prototxt(path)
    assert str(caught.value) == f"{path}, {message}"


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DchwError) as caught:
        network_from_prototxt(tmp_path / "none.prototxt")
    assert str(caught.value) == (
        f"{tmp_path / 'none.prototxt'}: it cannot be read (No such file or directory); check the path"
    )
    (tmp_path / "binary.prototxt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileFormatError) as caught:
        network_from_prototxt(tmp_path / "binary.prototxt")
    assert str(caught.value) == (
        f"{tmp_path / 'binary.prototxt'}: expected Caffe's text format; got binary data; give a .prototxt"
    )
