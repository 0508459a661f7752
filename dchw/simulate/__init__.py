"""The rules of time, the program they act on, and the two engines; ``dchw.simulate(network, machine)`` runs it all."""

from dchw.callable_package import make_callable

make_callable(__name__, "dchw.experiment")
