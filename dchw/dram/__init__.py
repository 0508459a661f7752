"""LPDDR memories at command level: standards as data, the controller, energy, and replay of traces."""
