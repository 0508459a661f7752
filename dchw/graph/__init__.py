"""Networks as values: a graph of operations, and what every operation computes."""
