"""Two engines that run a program under the rules of time: one written to be read, one compiled."""
