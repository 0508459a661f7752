"""Ways in: files, names, torch modules and arrays become networks; rules of operators stand in registries."""
