"""One run from a compressed network to its account, and the comparison of storage formats."""
