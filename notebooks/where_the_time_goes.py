# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Where the time goes on a phone
#
# LeNet-5, trained and compressed, on the NPU of a phone: which resource holds each layer back, how much of it is used,
# and whether widening it buys what the account promises.

# %%
from pathlib import Path

import pandas as pd

import dchw

here = Path.cwd()
models = next(p / "models" for p in (here, *here.parents) if (p / "models" / "lenet_5.dchw").exists())
network = dchw.load(models / "lenet_5.dchw")
phone = dchw.machine("phone-lpddr5x")
storages = ("dense-int8", "huffman-int8")
runs = {storage: dchw.simulate(network, phone, storage) for storage in storages}

# %% [markdown]
# Every layer's own cycles (by which it moves the end of the run on) and what bounds it, from the records of the run.

# %%
frames = [run.bounds_frame().assign(storage=storage) for storage, run in runs.items()]
bounds = pd.concat(frames, ignore_index=True)
for row in bounds.to_dict("records"):
    print(f"{row['storage']:13} {row['layer']:6} {row['own_cycles']:7,} cycles  {row['words']}")

# %% [markdown]
# A roof for everything that feeds the array: how far each layer is from it.

# %%
from dchw.run.roofs import roofs_frame

roofs = pd.concat([roofs_frame(run).assign(storage=storage) for storage, run in runs.items()])
roofs["share of roof"] = roofs["macs_per_cycle"] / roofs["attainable"]
roofs.pivot_table("share of roof", ["storage", "layer"], "roof", sort=False).round(2)

# %% [markdown]
# Widen one resource at a time and see what it buys.

# %%
wider = {
    "as it is": {},
    "twice the decode units": {"huffman.units": 2 * phone.huffman.units},
    "twice the DRAM channels": {"dram.channels": 2 * phone.dram.channels},
    "twice the activation SRAM's banks": {"activation_sram.banks": 2 * phone.activation_sram.banks},
    "twice the vector unit": {"vector.values_per_cycle": 2 * phone.vector.values_per_cycle},
}
rows = []
for what, changes in wider.items():
    machine = phone
    for key, value in changes.items():
        machine = machine.replace(key, value)
    rows.append({"machine": what, **{storage: dchw.simulate(network, machine, storage).cycles for storage in storages}})
table = pd.DataFrame(rows).set_index("machine")
(table.iloc[0] / table).round(2)

# %% [markdown]
# **In words.** Stored as bytes, the convolutions are bound by the array and `ip1` by the DRAM; but its weight SRAM is
# as busy, so that twice the channels buy nothing. Coded, the network waits on other things: `conv1` on the vector unit,
# which puts out 16 values a cycle, `conv2` on the broadcast of one vector of activations a cycle, which more banks do
# not widen, and only `ip1` on decoding. Twice the vector unit is worth more than twice the decode units: once weights
# are small, what is left is the way of the activations.
