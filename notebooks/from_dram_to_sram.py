# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From DRAM to SRAM: the argument of Deep Compression and EIE
#
# At batch 1 a fully connected layer uses every weight once, so its energy is the energy of fetching weights. Deep
# Compression makes AlexNet's and VGG-16's layers small enough for on-chip SRAM, and EIE puts that at 120 times less
# energy for the access alone. Here both halves of the argument are run: the arithmetic on the papers' own energies, and
# whole layers on a machine with LPDDR4 that keeps weights in SRAM.
#
# The weights are SYNTHETIC: AlexNet's and VGG-16's shapes with the published densities, non-zeros at random places.

# %%
import numpy as np
import pandas as pd

import dchw
from dchw.technology.published import published_energy

FULLY_CONNECTED = ("fc6", "fc7", "fc8")
INPUT_DENSITY = 0.35  # about what EIE's Table III gives for AlexNet's fully connected layers
RECIPE = dchw.Recipe(codebook_bits=4, index_bits=4)  # EIE's entries: a 4-bit code and a 4-bit gap

# %% [markdown]
# ## The papers' arithmetic
#
# 45 nm, 32 bits: 640 pJ from DRAM, 5 pJ from SRAM.

# %%
dram_pj = published_energy("deep_compression_table", "dram_access", 32).nominal
sram_pj = published_energy("deep_compression_table", "sram_cache_access", 32).nominal
print(f"one access: DRAM {dram_pj:g} pJ, SRAM {sram_pj:g} pJ, {dram_pj / sram_pj:.0f} times less")

# %% [markdown]
# ## Whole layers, run
#
# Each layer alone at batch 1: as fp32 streamed from LPDDR4 by EIE's array, as 4 + 4 bits kept in its SRAM, and on a
# phone with LPDDR5X before and after. `papers` is the same change in the papers' arithmetic: bytes over 4, times 640 pJ
# before, times 5 pJ after.


# %%
def alone(layer):
    """One layer as a network of its own, weights as they are, inputs random."""
    weights = layer.weight.reshape(layer.weight.shape[0], -1)
    inputs = (np.random.default_rng(0).random((1, weights.shape[1])) < INPUT_DENSITY).astype(np.float32)
    network = dchw.Network.from_arrays(layer.name, weights={layer.name: weights}, inputs={layer.name: inputs})
    return dchw.compress(network, RECIPE)


def fetch_uj(result):
    """Energy of DRAM and SRAM together."""
    spent = result.costs.by("category")
    return (spent["DRAM"] + spent["SRAM"]) / 1e6


rows = []
for name in ("alexnet", "vgg16"):
    for layer in dchw.load_network(f"{name}-synthetic").layers:
        if layer.name not in FULLY_CONNECTED:
            continue
        one = alone(layer)
        before = dchw.simulate(one, "eie-64pe-45nm", storage="dense-fp32")
        after = dchw.simulate(one, "eie-64pe-45nm", storage="shared", warm=True)
        stays = before.dram_bytes / after.dram_bytes > 100  # weights stay: only activations cross the bus
        phone = [dchw.simulate(one, "phone-lpddr5x", storage=form) for form in ("dense-fp32", "huffman")]
        packed = after.workload.stages[0].layer.packed.total_bytes
        rows.append(
            {
                "layer": f"{name} {layer.name}",
                "fp32 MB": before.dram_bytes / 1e6,
                "4+4 bit MB": packed / 1e6,
                "in SRAM": stays,
                "papers": (before.dram_bytes * dram_pj) / (packed * sram_pj),
                "before uJ": fetch_uj(before),
                "after uJ": fetch_uj(after),
                "EIE": fetch_uj(before) / fetch_uj(after),
                "phone DRAM bytes": phone[0].dram_bytes / phone[1].dram_bytes,
                "phone energy": phone[0].energy_pj / phone[1].energy_pj,
                "phone time": phone[0].cycles / phone[1].cycles,
            }
        )
        del one, before, after, phone
table = pd.DataFrame(rows).set_index("layer")
table.round(1)

# %% [markdown]
# ## What it says

# %%
kept = table[table["in SRAM"]]
print(f"{len(kept)} of {len(table)} layers stay in EIE's 8 MiB as 4 + 4 bits; their fetch energy falls")
print(f"{kept['EIE'].min():,.0f} to {kept['EIE'].max():,.0f} times where the papers' arithmetic says")
print(f"{kept['papers'].min():,.0f} to {kept['papers'].max():,.0f} times: 128 for the place, the rest for the bytes.")
print(f"On a phone whose weight SRAM holds none of them the place stays DRAM: {table['phone energy'].min():.0f} to")
print(f"{table['phone energy'].max():.0f} times less energy for {table['phone DRAM bytes'].min():.0f} to", end=" ")
print(f"{table['phone DRAM bytes'].max():.0f} times fewer bytes, in {table['phone time'].min():.0f} to", end=" ")
print(f"{table['phone time'].max():.0f} times less time.")

# %% [markdown]
# The 120 is a ratio of places, and it is there only once the weights fit. What remains then is SRAM: EIE reads a 64-bit
# word and two pointers per column and element, so its reads, not its multiplications, are most of what is left. Where
# they do not fit, as on the phone, the gain is that of the bytes, and decoding decides whether time follows.

# %%
assert table["in SRAM"].all()
assert (table["EIE"] > 120).all()
assert (table["phone energy"] < table["phone DRAM bytes"]).all()
