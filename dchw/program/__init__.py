"""Programs: the rules of time, and how nodes and links are put together and checked."""
