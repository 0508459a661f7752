"""Deep Compression on arrays: pruning, weight sharing, relative index, Huffman coding."""
