"""Deep Compression on arrays: pruning, weight sharing, relative index, Huffman coding; calling it compresses a network.

``dchw.compress(network, recipe)`` is `dchw.compress.recipe.compress`.
"""

from dchw.callable_package import make_callable

make_callable(__name__, "dchw.compress.recipe")
