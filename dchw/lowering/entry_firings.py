"""Loops that turn entries and activations into firings of processing elements, and code words into those of decode
units."""

from __future__ import annotations

from typing import Any

import numpy as np

from dchw.compile import kernel


@kernel
def runs_of_elements(element: Any, job: Any, count: Any, begin: Any, length: Any) -> None:
    """Put the first entry and the entries of each run, in chunk order, at its place in int32[elements, jobs]."""
    at = 0
    for run in range(count.size):
        begin[element[run], job[run]] = at
        length[element[run], job[run]] = count[run]
        at += count[run]


@kernel
def run_firings(
    worked: Any,
    begins: Any,
    least: Any,
    used: Any,
    run_begin: Any,
    run_length: Any,
    row: Any,
    hazard: int,
    drain: Any,
    entry_bits: int,
    word_bits: int,
) -> Any:
    """Firings of processing elements that read whole runs by themselves, over all passes of a layer.

    Nothing but the column and its chunk is waited for inside a run, so that a run is one firing of the sum of its
    entries' cycles. ``worked`` int32[active]: the active jobs of every pass, one pass behind the other, ``begins``
    int64[passes + 1] into them; of each, ``least`` int32[active] cycles an entry takes at least, and ``used``
    int32[active] pixels. ``run_begin``/``run_length`` int32[elements, jobs]: their runs in the entries, whose rows are
    ``row`` int32[entries]; ``hazard``: cycles between two additions to one row; ``drain`` int32[passes]: cycles of the
    hand-over that ends each pass. Entries of ``entry_bits`` lie in words of ``word_bits``, each run from a word on.

    Gives occupied int32[elements, active + passes], and int64[4]: entries worked, products, most cycles of a firing,
    words of the runs. Every element fires alike: once for each active job, and at the end of each pass.
    """
    passes, (elements, jobs) = begins.size - 1, run_length.shape
    occupied = np.empty((elements, worked.size + passes), np.int32)
    words = np.empty(jobs, np.int64)
    entries = products = longest = read = np.int64(0)
    for element in range(elements):
        line, length_of, begin_of = occupied[element], run_length[element], run_begin[element]
        for j in range(jobs):
            words[j] = (length_of[j] * entry_bits + word_bits - 1) // word_bits
        for t in range(passes):
            last_row = -1
            for a in range(begins[t], begins[t + 1]):
                j = worked[a]
                length = np.int64(length_of[j])
                total = length * least[a]
                if hazard > 1 and length > 0:
                    if least[a] < hazard:
                        total = np.int64(0)
                        for index in range(begin_of[j], begin_of[j] + length):
                            total += hazard if row[index] == last_row else least[a]
                            last_row = row[index]
                    else:
                        last_row = row[begin_of[j] + length - 1]
                entries += length
                products += length * used[a]
                read += words[j]
                longest = max(longest, total)
                line[a + t] = max(total, 1)
            line[begins[t + 1] + t] = drain[t]
    return occupied, np.array([entries, products, longest, read])


@kernel
def entry_firings(
    worked: Any,
    begins: Any,
    least: Any,
    used: Any,
    run_begin: Any,
    run_length: Any,
    row: Any,
    hazard: int,
    drain: Any,
    begun: Any,
    given: Any,
    one_unit: bool,
) -> Any:
    """Firings of processing elements that take their entries one by one, as `run_firings` but for these.

    ``begun`` int32[elements]: firings of each element before; ``given``: decode unit int32[entries] of each entry, its
    firing int32[entries] among those that go through the unit's chunks once, and int32[units, passes] what to add to
    that in each pass. ``one_unit``: all entries of an element are one decode unit's.

    Gives (occupied int32[n], one element behind the other, and where each element's begin in it int64[elements + 1];
    first firing of each active job int32[elements, active]; of each entry its unit int32[m], with ``one_unit`` of each
    element's first one int32[elements], the unit's firing int32[m] and the element's int32[m], and where each element's
    begin int64[elements + 1]; firing of each pass's hand-over int32[elements, passes]; int64[3]: entries worked,
    products, most cycles of a firing). ``NodeBuilder`` refuses as many firings as 32 bits cannot count.
    """
    passes, active, (elements, jobs) = begins.size - 1, worked.size, run_length.shape
    unit_of, group, before_pass = given
    times = np.zeros(jobs, np.int64)  # passes in which each job is active
    for a in range(active):
        times[worked[a]] += 1
    offsets = np.zeros(elements + 1, np.int64)
    entry_offsets = np.zeros(elements + 1, np.int64)
    for element in range(elements):
        firings = np.int64(passes)
        entries = np.int64(0)
        for j in range(jobs):
            length = np.int64(run_length[element, j])
            entries += times[j] * length
            firings += times[j] * max(length, 1)
        offsets[element + 1] = offsets[element] + firings
        entry_offsets[element + 1] = entry_offsets[element] + entries
    occupied = np.empty(offsets[elements], np.int32)
    job_firing = np.empty((elements, active), np.int32)
    entry_unit = np.empty(elements if one_unit else entry_offsets[elements], np.int32)
    given_by = np.empty(entry_offsets[elements], np.int32)
    taken_by = np.empty(entry_offsets[elements], np.int32)
    drained = np.empty((elements, passes), np.int32)
    worked_entries = products = longest = np.int64(0)
    e = 0
    for element in range(elements):
        f = offsets[element]
        before = begun[element] - f
        for t in range(passes):
            last_row = -1
            for a in range(begins[t], begins[t + 1]):
                j = worked[a]
                job_firing[element, a] = f + before
                begin, length = run_begin[element, j], np.int64(run_length[element, j])
                if length == 0:
                    occupied[f] = 1
                    f += 1
                    continue
                for index in range(begin, begin + length):
                    cycles = np.int64(least[a])
                    if cycles < hazard:
                        cycles = np.int64(hazard) if row[index] == last_row else cycles
                        last_row = row[index]
                    unit = unit_of[index]
                    if one_unit:
                        entry_unit[element] = unit
                    else:
                        entry_unit[e] = unit
                    occupied[f] = cycles
                    longest = max(longest, cycles)
                    given_by[e] = before_pass[unit, t] + group[index]
                    taken_by[e] = f + before
                    e += 1
                    f += 1
                if 1 < hazard <= least[a]:
                    last_row = row[begin + length - 1]
                worked_entries += length
                products += length * used[a]
            occupied[f] = drain[t]
            drained[element, t] = f + before
            f += 1
    done = np.array([worked_entries, products, longest])
    return occupied, offsets, job_firing, entry_unit, given_by, taken_by, entry_offsets, drained, done


@kernel
def group_cycles(ready: Any, wanted: Any, chunk_offsets: Any, start_cycles: int, order: Any, unit: Any) -> Any:
    """Decode firings from delivery cycles: entries of a chunk with one delivery cycle leave in one firing.

    ``ready`` int64[entries] counts within each chunk (`HuffmanDecoder.schedule`). Entries that nobody waits for (not
    ``wanted``, bool[entries]) need no firing of their own: their cycles go to the next that is, or to the one that
    ends the chunk. Chunks are worked in ``order``, which puts those of one ``unit`` (int32[chunks]) behind one
    another. Gives (firing of each wanted entry, counted from its unit's first, int32[entries]; occupied int32[firings]
    in that order; firings before each chunk of ``order`` int64[chunks + 1]).
    """
    chunks = chunk_offsets.size - 1
    group = np.empty(ready.size, np.int32)
    occupied = np.empty(ready.size + chunks, np.int32)
    before = np.empty(chunks + 1, np.int64)
    n = 0
    first = 0
    for place in range(chunks):
        c = order[place]
        before[place] = n
        if place == 0 or unit[c] != unit[order[place - 1]]:
            first = n
        if chunk_offsets[c] == chunk_offsets[c + 1]:  # nothing to decode, but the chunk is still opened
            occupied[n] = max(start_cycles, 1)
            n += 1
        last = np.int64(-1)
        opening = np.int64(start_cycles)
        for i in range(chunk_offsets[c], chunk_offsets[c + 1]):
            now = ready[i]
            ends = i == chunk_offsets[c + 1] - 1
            if now != last and (wanted[i] or ends):  # a chunk's first entry is delivered in cycle 0 or later
                occupied[n] = now - last + opening
                opening = np.int64(0)
                last = now
                n += 1
            group[i] = n - 1 - first
    before[chunks] = n
    return group, occupied[:n], before
