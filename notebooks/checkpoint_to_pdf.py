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
# # From a checkpoint to an energy report in PDF
#
# What a colleague hands over is a file of weights. What is asked for is a document with joules in it that somebody else
# can check: every one a count times a figure with a source and a range.

# %%
import tempfile
from pathlib import Path

import dchw

here = Path.cwd()
models = next(p / "models" for p in (here, *here.parents) if (p / "models" / "lenet_300_100.safetensors").exists())

# %% [markdown]
# The checkpoint is dense. A tenth of the weights stays, by magnitude and without retraining, and shares 31 values a
# layer: enough to see what storage costs, not to keep the error rate (`dchw train` retrains).

# %%
network = dchw.load_network(models / "lenet_300_100.safetensors")
compressed = dchw.compress(network, dchw.Recipe(density=0.1, codebook_bits=5))
print(network.coverage.sentence())
print({layer.name: f"{layer.density:.1%} kept" for layer in compressed.layers})

# %% [markdown]
# Before and after on a phone, with the verdict that will open the report.

# %%
results: dict[str, dchw.SimResult] = {}
storages = ["dense-fp32", "dense-int8", "huffman-int8"]
table = dchw.compare(compressed, "phone-lpddr5x", storages=storages, on_result=results.__setitem__)
print("\n".join(table.attrs["verdict"]))
table[["storage", "dram_read_bytes", "cycles", "inferences_per_s", "inferences_per_j", "energy_nj"]].round(0)

# %% [markdown]
# What the total rests on: one assumption at a time, the three that move it most.

# %%
for found in results["huffman-int8"].costs.sensitivity()[:3]:
    print(f"{found.name}: {found.total_low_pj / 1e3:,.0f} to {found.total_high_pj / 1e3:,.0f} nJ ({found.confidence})")

# %% [markdown]
# The report itself. A PDF is printed by Chromium; without one the same page is written as HTML.

# %%
folder = Path(tempfile.mkdtemp())
try:
    dchw.report(list(results.values()), folder / "energy.pdf")
except dchw.DchwError as error:
    print(error)
    dchw.report(list(results.values()), folder / "energy.html")
written = next(folder.iterdir())
print(written.name, f"{written.stat().st_size / 1e6:.1f} MB")

# %% [markdown]
# **In words.** Ten lines lead from a file of weights to the document. The verdict says what wins, against which
# baseline and in which arithmetic; the range of the total comes mostly from one assumed figure, the energy per bit of
# LPDDR5X, for which no currents are public. A reader who knows better changes it in the standard's file and every
# number follows.
