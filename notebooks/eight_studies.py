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
# # Eight studies
#
# Eight questions about a phone's accelerator, each asked on LeNet-300-100 and on SqueezeNet. The study files are in
# `studies/`; `dchw sweep FILE --out DIR` runs one, `dchw report DIR` draws it. This notebook runs them at a size that
# fits a few minutes and says what they say.

# %%
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import display
from ruamel.yaml import YAML

import dchw

here = Path.cwd()
root = next(p for p in (here, *here.parents) if (p / "models" / "lenet_300_100.dchw").exists())
scratch = tempfile.TemporaryDirectory()
out = Path(scratch.name)

# %% [markdown]
# SqueezeNet is the published Deep-Compression release where the folder of data sets has it. Elsewhere its weights are
# seeded: the same layers at a third of the weights, so that times and bytes are alike, though no picture is
# recognised.


# %%
def seeded(network: dchw.Network, density: float | None) -> dchw.CompressedNetwork:
    """A network's layers with seeded normal weights, pruned and shared in 4 bits: SYNTHETIC."""
    rng = np.random.default_rng(0)
    weights = {layer.name: rng.standard_normal(layer.weight.shape, dtype=np.float32) for layer in network.layers}
    return dchw.compress(network.with_weights(weights), dchw.Recipe(density=density, codebook_bits=4))


lenet = root / "models" / "lenet_300_100.dchw"
squeezenet = Path(os.environ.get("DCHW_DATA", "no data")) / "squeezenet_deep_compression" / "compressed_SqueezeNet.net"
names = {str(lenet): "LeNet-300-100", str(squeezenet): "SqueezeNet"}
if not squeezenet.exists():
    squeezenet = out / "squeezenet.dchw"
    dchw.save(seeded(dchw.load_network("squeezenet_v1_0"), 0.33), squeezenet)
    names[str(squeezenet)] = "SqueezeNet, SYNTHETIC weights"


def ask(stem: str, columns: list[str], **changes: object) -> pd.DataFrame:
    """Run a shipped study on both networks and show the columns that answer it."""
    settings = YAML(typ="safe").load(root / "notebooks" / "studies" / f"{stem}.yaml")
    return run({**settings, "networks": [str(lenet), str(squeezenet)], **changes}, columns)


def run(settings: dict[str, object], columns: list[str]) -> pd.DataFrame:
    """Run a study and show the columns that answer it."""
    study = dchw.study(settings)
    frame = study.run(Path(tempfile.mkdtemp(dir=out)) / "study")
    frame["network"] = frame["network"].map(lambda path: names.get(path, path))
    print(study.settings.question)
    failed = frame["error"].notna()
    if failed.any():
        print(f"{failed.sum()} points were refused, the first: {frame['error'][failed].iloc[0]}")
    rows = frame.loc[~failed, ["network", *columns, "bound_by"]].round(3)
    display(rows)
    return rows


figures = ["latency_us", "energy_nj", "dram_read_bytes"]

# %% [markdown]
# ## 1. How many Huffman decode units does a phone need?
#
# **32**, which the phones' presets have for it. Sixteen decode an entry a cycle each and hold both networks back: at 32
# LeNet-300-100 takes 31 % less time and 11 % less energy, SqueezeNet 6 % less time, and SqueezeNet is then bound by its
# array. The next doubling brings LeNet-300-100 12 % and SqueezeNet 0.9 %: 7 % in their mean, less than the tenth that
# counts here as worth its hardware. Sixteen more units are 0.3 % of the area.

# %%
units = ask("decode_units", ["huffman.units", "latency_us", "energy_nj", "area_mm2"])
axes = units.set_index("huffman.units").groupby("network")["latency_us"]
plot = (axes.transform(lambda rows: rows / rows.iloc[-1])).to_frame("latency, of that with 64 units")
plot["network"] = units["network"].to_numpy()
ax = plot.pivot(columns="network").droplevel(0, axis=1).plot(logx=True, marker="o", ylabel="latency / latency at 64")
ax.set_xticks([4, 8, 16, 32, 64], labels=["4", "8", "16", "32", "64"])
ax.minorticks_off()
ax.set_ylim(bottom=0)
# %% [markdown]
# ## 2. Decode when loading or when using?
#
# **When using.** Coded weights take less of the weight SRAM and of its energy: with 32 units, decoding at use saves
# LeNet-300-100 11 % of time and of energy, SqueezeNet 2 % of energy and no time. With only sixteen units SqueezeNet is
# 4 % faster decoded at load, because each weight is then decoded once and not once per band of pixels; its energy is
# still 2 % more. With 64 units LeNet-300-100 is 3 % faster decoded at load, for 10 % more energy.

# %%
placement = ask("placement", ["huffman.placement", "huffman.units", *figures])

# %% [markdown]
# ## 3. How deep must the queue of a processing element be?
#
# **4 places**, which the phones' presets have for it. From 1 to 4 LeNet-300-100 saves 15 % and SqueezeNet 6 % of time;
# from 4 to 8 another 3 and 2 %, for 15 % of the area and 1 % of energy, because a place holds an operand for each of
# 64 pixels. 2 places would save 7 % of the area for 2 to 3 % of time; they are too few for depthwise layers of bytes,
# which no network here has (19 % more time).

# %%
depths = {"pe_array.queue_depth": [1, 2, 4, 8, 32]}
queues = ask(
    "queue_depth",
    ["pe_array.queue_depth", "latency_us", "energy_nj", "area_mm2"],
    machines=["phone-lpddr5x"],
    vary=depths,
)

# %% [markdown]
# ## 4. How wide should gaps be, and should they run on?
#
# **4 bits where gaps have a fixed width; with Huffman coding it does not matter, but they must run on.** Fixed-width
# entries (`shared`) take 5 % less with 4 bits than with 5 and 17 % less than with 8 on LeNet-300-100, 6 and 21 % on
# SqueezeNet: filler zeros for gaps that do not fit cost less than a wider field in every entry. Huffman packing
# searches its own width and gives the same bytes within 0.1 % for all three. Gaps that run on from column to column
# need no pointers: that is 42 % of LeNet-300-100's coded bytes and 33 % of its energy, 9 % of SqueezeNet's bytes.

# %%
widths = ask("index_width", ["storage", "recipe.index_bits", "pointers", "packed_bytes", *figures])

# %% [markdown]
# ## 5. How much SRAM keeps weights out of the DRAM?
#
# **As much as the packed weights, and not a byte less: it is a cliff.** Warm, LeNet-300-100 in int8 (270 kB) reads
# 238 kB with 256 KiB and 0.8 kB with 1 MiB, at a sixth of the energy. Huffman-coded (24 kB) it is over the cliff at
# 64 KiB; 16 KiB are refused, for they do not hold the chunks that 32 decode units work at once. SqueezeNet's layers are
# cut along their channels to fit there, for 23 % more time. It is held by its activations: from 64 KiB to 1 MiB its
# energy changes by less than half a percent, in int8 and coded.

# %%
srams = ask("sram_size", ["storage", "weight_sram.size_bytes", *figures, "area_mm2"])

# %% [markdown]
# ## 6. LPDDR4X, 5, 5X or 6?
#
# **It matters to who reads dense weights.** LeNet-300-100 in int8 takes 46 % less time on LPDDR5X than on LPDDR4X and
# 42 % less energy; Huffman-coded, 19 % and 36 %. SqueezeNet, which its array bounds, gains nothing in int8 and 8 % of
# time coded, and saves 5 % of energy in int8, 14 % coded. At four channels LPDDR6 is slower than LPDDR5X here, as its
# channels have 12 bits. The energies of LPDDR5, 5X and 6 rest on assumed pJ per bit.

# %%
standards = ask("dram_standard", ["storage", "dram.standard", *figures])

# %% [markdown]
# ## 7. Palette, bitmask or gaps: at which density?
#
# **Gaps up to 5 %, a bitmask from 10 to 60 %, a palette beyond, where fields have a fixed width; Huffman-coded gaps
# pack least at every one of these densities.** On seeded weights, since a trained network has one density: SYNTHETIC.
# `shared` gaps and bitmask cross between 5 and 10 %; LeNet-300-100's bitmask and palette between 60 and 80 %,
# SqueezeNet's beyond. At 80 % Huffman coding saves LeNet-300-100 3 % of the palette's bytes and takes half more time,
# as every entry passes a decode unit. Time is the bitmask's from 10 % on, on SqueezeNet only from 20 %.

# %%
packed = ask("density", ["storage", "recipe.density", "packed_bytes", "latency_us", "energy_nj"])
packed.pivot(index=["network", "recipe.density"], columns="storage", values="packed_bytes")

# %% [markdown]
# ## 8. When does Huffman coding pay at all?
#
# **In energy always here, in time where the DRAM is the bound.** Against fixed-width `shared` entries LeNet-300-100
# saves 31 to 47 % of energy. On one channel it saves 32 to 40 % of time; on four it costs 69 % more with sixteen
# decode units, 17 % with the 32 of study 1 and 1 % with 64. SqueezeNet reads 3 % less in all, since activations
# dominate: 1 to 2 % of time on one channel, 2 to 3 % of energy, and on four channels a loss of 6 % of time with sixteen
# units and none with 64.

# %%
pays = ask("huffman_pays", ["storage", "dram.channels", "huffman.units", *figures])
