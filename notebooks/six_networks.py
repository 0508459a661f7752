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
# # Traffic before and after, for whole networks
#
# What crosses the DRAM of a phone for one image, stored as float32, as bytes, and coded (`huffman-int8`). The runs take
# minutes and are kept in `docs/six_networks`, made by `python -m tests.peers.six_networks`; their page says of every
# network where its weights come from. Most are SYNTHETIC: shapes and densities matter here, not values.

# %%
from pathlib import Path

import pandas as pd

here = Path.cwd()
folder = next(p / "docs" / "six_networks" for p in (here, *here.parents) if (p / "docs" / "six_networks").is_dir())
table = pd.concat([pd.read_csv(path) for path in sorted(folder.glob("*.csv"))], ignore_index=True)
table["moved MB"] = (table["dram_read_bytes"] + table["dram_write_bytes"]) / 1e6
table["weights MB"] = table["packed_bytes"] / 1e6
moved = table.pivot_table("moved MB", ["machine", "network"], "storage", sort=False)
moved.round(1)

# %% [markdown]
# How many times less, and how much of what is left is weights.

# %%
by_run = table.set_index(["storage", "machine", "network"])
dense, coded = by_run.loc["dense-int8"], by_run.loc["huffman-int8"]
pd.DataFrame(
    {
        "bytes over coded": dense["moved MB"] / coded["moved MB"],
        "weights over coded weights": dense["weights MB"] / coded["weights MB"],
        "share of weights in what is left": coded["weights MB"] / coded["moved MB"],
        "inferences per joule": coded["inferences_per_j"],
        "bound by": coded["bound_by"],
    }
).round(2)

# %% [markdown]
# **In words.** AlexNet is nearly all fully connected weights: they shrink eight times, and so does what the DRAM moves.
# VGG-16's shrink eleven times, and five times fewer bytes cross: the rest is its large feature maps.
# In SqueezeNet (FireNet), MobileNetV2, ResNet-50 and ViT-B/16 weights shrink two to four and a half times, but what
# crosses falls only by a tenth to over a half: much of what is left are activations that do not fit the chip.
# Compression has then done its work; more SRAM for activations, or other orders of layers, is what would help next.
# None of these runs is bound by the DRAM once its weights are coded.
