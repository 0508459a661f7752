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
# # Before and after compression
#
# A LeNet-300-100 trained on MNIST, pruned, weight-shared and Huffman-coded, on a phone-class accelerator.
# The library does the work; this notebook only asks.

# %%
from pathlib import Path

import dchw

here = Path.cwd()
models = next(p / "models" for p in (here, *here.parents) if (p / "models" / "lenet_300_100.dchw").exists())
network = dchw.load(models / "lenet_300_100.dchw")
print({layer.name: f"{layer.density:.1%} of {layer.codes.size:,} weights" for layer in network.layers})

# %% [markdown]
# One row per storage format: what lies in DRAM, what crosses the bus, how long it takes and what it costs.

# %%
table = dchw.compare(network, "phone-lpddr5x")
columns = ["storage", "file_bytes", "packed_bytes", "dram_read_bytes", "cycles", "latency_us", "energy_nj"]
table[columns].round(2)

# %% [markdown]
# More decode units buy time until the DRAM is the bottleneck.

# %%
import pandas as pd

machine = dchw.machine("phone-lpddr5x")
rows = []
for units in (4, 8, 16, 32, 64):
    run = dchw.simulate(network, machine.replace("huffman.units", units))
    rows.append(
        {"decode_units": units, "cycles": run.cycles, "gbps": run.bandwidth_gbps, "energy_nj": run.energy_pj / 1e3}
    )
pd.DataFrame(rows).round(2)

# %% [markdown]
# Weights that fit the SRAM stay there: the second inference reads only the image.

# %%
cold, warm = (dchw.simulate(network, machine, warm=state) for state in (False, True))
pd.DataFrame(
    [
        {
            "weights": name,
            "dram_read_bytes": run.dram_read_bytes,
            "cycles": run.cycles,
            "energy_nj": run.energy_pj / 1e3,
        }
        for name, run in (("cold", cold), ("warm", warm))
    ]
).round(2)

# %% [markdown]
# Every joule is a count times a figure with a source.

# %%
frame = cold.to_frame().sort_values("energy_pj", ascending=False)
frame[["unit", "event", "layer", "stream", "count", "energy_each_pj", "energy_pj", "confidence"]].head(8)
