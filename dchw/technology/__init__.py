"""Joules, square millimetres and nanoseconds of SRAM and logic at a node, each with range and source."""
