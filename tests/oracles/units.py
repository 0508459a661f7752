"""Timing rules of units, one cycle at a time, written from their docstrings only."""

from __future__ import annotations

from fractions import Fraction


def bit_serial(gap_bits: list[int], code_bits: list[int], bits_per_cycle: int) -> list[int]:
    """Cycle in which each entry is complete: both decoders eat their bits, the entry leaves when both are through."""
    delivered, cycle = [], 0
    for gap, code in zip(gap_bits, code_bits, strict=True):
        left = [gap, code]
        while True:
            left = [max(0, bits - bits_per_cycle) for bits in left]
            if left == [0, 0]:
                break
            cycle += 1
        delivered.append(cycle)
        cycle += 1
    return delivered


def table(gap_bits: list[int]) -> list[int]:
    """One entry a cycle."""
    return list(range(len(gap_bits)))


def multi_symbol(gap_bits: list[int], code_bits: list[int], window_bits: int, most: int) -> list[int]:
    """Every cycle as many entries as fit both windows, at least one, at most ``most``."""
    delivered: list[int] = []
    cycle = 0
    while len(delivered) < len(gap_bits):
        gaps = codes = taken = 0
        while len(delivered) < len(gap_bits) and taken < most:
            i = len(delivered)
            if taken and (gaps + gap_bits[i] > window_bits or codes + code_bits[i] > window_bits):
                break
            gaps, codes, taken = gaps + gap_bits[i], codes + code_bits[i], taken + 1
            delivered.append(cycle)
        cycle += 1
    return delivered


def rate(weights_covered: list[int], weights_per_cycle: Fraction) -> list[int]:
    """Weights come at a constant rate; an entry leaves in the cycle in which the last weight it covers is decoded."""
    delivered, cycle, decoded, wanted = [], 0, weights_per_cycle, 0
    for covered in weights_covered:
        wanted += covered
        while decoded < wanted:
            cycle += 1
            decoded += weights_per_cycle
        delivered.append(cycle)
    return delivered


def supplied(
    ready: list[int], gap_bits: list[int], code_bits: list[int], slot_bits: int, slot_cycles: int
) -> list[int]:
    """The same deliveries when bits arrive ``slot_bits`` every ``slot_cycles`` cycles, from cycle 0 on.

    The decoder stands still in a cycle in which the bits it needs have not arrived.
    """
    delivered, lost, needed = [], 0, 0
    for at, gap, code in zip(ready, gap_bits, code_bits, strict=True):
        needed += gap + code
        cycle = at + lost
        while (cycle // slot_cycles + 1) * slot_bits < needed:
            cycle += 1
            lost += 1
        delivered.append(cycle)
    return delivered


def dense_column(rows: int, pixels: int, elements: int, lanes: int) -> int:
    """Cycles of a dense column per group of lanes: hand out (row, pixel group) work until none is left."""
    rows_at_once = elements * (lanes // pixels if pixels < lanes else 1)
    cycles = 0
    while rows > 0:
        rows -= rows_at_once
        cycles += 1
    return cycles


def broadcast(work: list[list[int]], depth: int) -> tuple[list[int], list[int]]:
    """(cycle of each push, cycle each element is free) for columns pushed to bounded queues, cycle by cycle.

    ``work[column][element]`` is the cycles that column costs the element, at least one. A column is pushed when every
    queue has room; what is pushed in cycle c can start in c + 1; a slot is free one cycle after its column started.
    """
    elements = len(work[0])
    queues: list[list[tuple[int, int]]] = [[] for _ in range(elements)]  # (visible from, cycles)
    held: list[list[int]] = [[] for _ in range(elements)]  # cycles from which taken slots are free
    free = [0] * elements
    pushes: list[int] = []
    pushed, cycle = 0, 0
    while pushed < len(work) or any(queues):
        for p in range(elements):
            if queues[p] and queues[p][0][0] <= cycle and free[p] <= cycle:
                _, cycles = queues[p].pop(0)
                free[p] = cycle + cycles
                held[p].append(cycle + 1)
        for p in range(elements):
            held[p] = [at for at in held[p] if at > cycle]
        if pushed < len(work) and all(len(queues[p]) + len(held[p]) < depth for p in range(elements)):
            for p in range(elements):
                queues[p].append((cycle + 1, max(work[pushed][p], 1)))
            pushes.append(cycle)
            pushed += 1
        cycle += 1
    return pushes, free
