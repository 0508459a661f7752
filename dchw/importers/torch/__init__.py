"""Networks from torch: modules and checkpoints."""
