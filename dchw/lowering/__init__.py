"""From a workload to a program: wires what mapping decided, as firings of nodes."""
