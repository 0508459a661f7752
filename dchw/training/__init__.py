"""Prune, retrain, share, fine-tune: the only place where torch trains."""
