"""Does a row multiply what it says, bytes with bytes where the machine has them, and is it priced and moved so?"""

from __future__ import annotations

import numpy as np
import pytest

import dchw
from dchw.costs.accounting import unit_costs
from dchw.machines.machine import Machine
from dchw.machines.silicon import NumberFormat, NumberFormats
from dchw.mapping.arithmetic import as_bytes
from dchw.vocabulary import Event, Stream
from tests.mapping.layers import fully_connected

PHONE = dchw.machine("phone-lpddr5x")
BYTES = NumberFormats(weights=NumberFormat.INT8, activations=NumberFormat.INT8, accumulators=NumberFormat.INT32)


def without_bytes() -> Machine:
    return PHONE.replace("pe_array.also_multiplies", [])


def test_arithmetic_is_written_as_text_or_field_by_field() -> None:
    assert NumberFormats.model_validate("int8xint8->int32") == BYTES
    assert NumberFormats.model_validate("fp16 x fp16 -> fp32") == NumberFormats()
    assert str(NumberFormats()) == "fp16xfp16->fp32"
    assert dchw.machine("phone-lpddr5x").replace("clock", "1 GHz") == PHONE  # load(dump(x)) == x
    with pytest.raises(dchw.DchwError, match="expected WEIGHTSxACTIVATIONS->SUMS, such as int8xint8->int32"):
        PHONE.replace("pe_array.also_multiplies", ["int8"])


@pytest.mark.parametrize("storage", list(dchw.formats.STORAGE_FORMATS))
def test_integers_are_multiplied_as_bytes_and_everything_else_as_the_machine_does(storage: str) -> None:
    form = dchw.formats.storage_format(storage)
    working = PHONE.working(form)
    assert working.formats == (BYTES if storage in ("dense-int8", "huffman-int8") else PHONE.formats)
    assert working.working(form) == working
    assert set(working.multiplies) == set(PHONE.multiplies)
    assert without_bytes().working(form) == without_bytes()


@pytest.mark.parametrize("storage", ["dense-int8", "huffman-int8"])
def test_outputs_are_integer_products_times_scales(storage: str) -> None:
    network = fully_connected(37, 50)
    run = dchw.simulate(network, PHONE, storage)
    layer = network.layers[0]
    matrix, x = layer.weight.astype(np.float64), next(iter(network.graph.example_inputs.values()))[0].astype(np.float64)
    x_step = np.abs(x).max() / 127
    axis = 1 if storage == "dense-int8" else None  # a scale per output channel, or one for the codebook
    steps = np.abs(matrix).max(axis=axis, keepdims=True) / 127
    sums = np.rint(matrix / steps) @ np.rint(x / x_step)
    expected = sums * steps.reshape(-1) * x_step + (0 if layer.bias is None else layer.bias)
    (out,) = run.outputs.values()
    np.testing.assert_allclose(out[0], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    plain = dchw.simulate(network, without_bytes(), storage).outputs
    assert any((one != other).any() for one, other in zip(run.outputs.values(), plain.values(), strict=True))


def test_bytes_move_half_of_what_float16_moves_and_cost_a_byte_multiplier() -> None:
    network = fully_connected(37, 50)
    wide, narrow = (dchw.simulate(network, m, "dense-int8") for m in (without_bytes(), PHONE))
    broadcast = "unit == 'activation_sram' and event == 'sram_read' and stream == 'activations'"
    reads = [run.to_frame().query(broadcast)["count"].sum() for run in (wide, narrow)]
    assert reads[0] == 2 * reads[1]
    # the published additions and multiplications of 7 nm, and a register
    mac = unit_costs(PHONE, "dense-int8")["pe_array"].energy_pj[Event.MAC]
    assert 0.07 + 0.03 < mac.nominal < 0.07 + 0.03 + 0.03
    assert "TPUv4i" in mac.source
    assert mac.nominal < 0.2 * unit_costs(without_bytes(), "dense-int8")["pe_array"].energy_pj[Event.MAC].nominal
    assert narrow.stream_bytes()[Stream.WEIGHTS] == wide.stream_bytes()[Stream.WEIGHTS]


def test_a_machine_without_byte_multipliers_says_so() -> None:
    network = fully_connected(37, 50)
    notes = " ".join(dchw.simulate(network, without_bytes(), "dense-int8").notes)
    assert "has no int8 multipliers: weights dequantised on the way, fp16xfp16->fp32 multiplied" in notes
    assert "int8xint8->int32 multiplied" in " ".join(dchw.simulate(network, PHONE, "dense-int8").notes)
    assert "multiplied" not in " ".join(dchw.simulate(network, PHONE, "huffman").notes)


def test_rounding_to_bytes() -> None:
    assert as_bytes(np.zeros(3, np.float32)).tolist() == [0, 0, 0]
    assert as_bytes(np.array([1e-42], np.float32)).tolist() == [0]
    assert as_bytes(np.array([-127, 0.4, 0.6, 126.5], np.float32)).tolist() == [-127, 0, 1, 126]
