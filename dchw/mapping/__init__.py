"""Decides how a network is worked on a machine: packing, order of loops, what leaves the chip; knows no nodes."""
