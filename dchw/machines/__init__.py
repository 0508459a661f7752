"""Machines as YAML: presets, silicon and units, one file a unit."""
