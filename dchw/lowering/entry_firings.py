"""Loops that turn entries and activations into firings of processing elements, and code words into those of decode
units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dchw.compile import kernel
from dchw.program.builder import Indices, Row
from dchw.program.sheets import Sheets

AHEAD = 4
"""Entries that are written whether they are there or not."""


@kernel
def runs_of_elements(element: Any, job: Any, count: Any, begin: Any, length: Any) -> None:
    """Put the first entry and the entries of each run, in chunk order, at its place in int32[elements, jobs]."""
    at = 0
    for run in range(count.size):
        begin[element[run], job[run]] = at
        length[element[run], job[run]] = count[run]
        at += count[run]


@dataclass(frozen=True, kw_only=True, eq=False)
class WorkedJobs:
    """The active jobs of all passes of a layer, one pass behind the other, and the runs that are worked in them."""

    job: Row
    """int32[active]"""
    begins: Indices
    """int64[passes + 1] into them."""
    least: Row
    """int32[active]: cycles that an entry takes at least."""
    pixels: Row
    """int32[active]: pixels in the groups of lanes that are broadcast."""
    run_begin: Row
    """int32[elements, jobs]: first of each element's entries of a job"""
    run_length: Row
    """and how many there are."""
    row: Row
    """int32[entries]: row of each."""
    hazard: int
    """Cycles between two additions to one row."""
    drain: Row
    """int32[passes]: cycles of the hand-over that ends each pass."""

    @property
    def passes(self) -> int:
        """Passes of the layer."""
        return self.begins.size - 1

    def entries(self) -> Indices:
        """int64[active]: entries worked by all elements."""
        return np.asarray(self.run_length.sum(axis=0, dtype=np.int64)[self.job])

    def longest(self) -> int:
        """Most cycles that the entries of a job take in one element, at least."""
        most = self.run_length.max(axis=0, initial=0).astype(np.int64)
        return int((most[self.job] * self.least).max(initial=0))

    def words(self, entry_bits: int, word_bits: int) -> int:
        """Words of the runs that are worked, each run from a word on: entries of ``entry_bits`` in ``word_bits``."""
        lengths = np.arange(self.run_length.max(initial=0) + 1, dtype=np.int64)
        words = (lengths * entry_bits + word_bits - 1) // word_bits
        return int(words[self.run_length].sum(axis=0)[self.job].sum())


def run_firings(work: WorkedJobs, elements: slice, sheets: Sheets) -> tuple[Row, int]:
    """Firings of processing elements that read whole runs by themselves, over all passes of a layer.

    Nothing but the column and its chunk is waited for inside a run, so that a run is one firing of the sum of its
    entries' cycles. Every element fires alike: once for each active job, and at the end of each pass.

    Gives occupied int32[elements, active + passes], and the most cycles that a firing which waits for rows takes: where
    32 bits do not hold these, or `WorkedJobs.longest`, what is given means nothing.
    """
    begin, length = work.run_begin[elements], work.run_length[elements]
    shape = len(length), work.job.size + work.passes
    occupied = sheets.empty(shape[0] * shape[1]).reshape(shape)
    jobs = work.job, work.begins, work.least
    return occupied, int(_runs(*jobs, begin, length, work.row, work.hazard, work.drain, occupied))


@kernel
def _runs(
    worked: Any, begins: Any, least: Any, run_begin: Any, run_length: Any, row: Any, hazard: int, drain: Any, out: Any
) -> int:
    longest = np.int64(0)
    for element in range(run_length.shape[0]):
        line, length_of, begin_of = out[element], run_length[element], run_begin[element]
        for t in range(begins.size - 1):
            for a in range(begins[t], begins[t + 1]):
                total = length_of[np.uint64(worked[np.uint64(a)])] * least[np.uint64(a)]
                line[np.uint64(a + t)] = max(total, np.int32(1))
            line[begins[t + 1] + t] = drain[t]
            if hazard <= 1:
                continue
            last_row = -1
            for a in range(begins[t], begins[t + 1]):
                j = np.uint64(worked[np.uint64(a)])
                begin, length, cycles = begin_of[j], length_of[j], least[np.uint64(a)]
                if length > 0 and cycles < hazard:
                    waited = np.int64(0)
                    for index in range(begin, begin + length):
                        waited += hazard if row[np.uint64(index)] == last_row else cycles
                        last_row = row[np.uint64(index)]
                    line[a + t] = waited
                    longest = max(longest, waited)
                elif length > 0:
                    last_row = row[begin + length - 1]
    return int(longest)


@dataclass(frozen=True, kw_only=True, eq=False)
class EntryFirings:
    """Firings of processing elements that take their entries one by one; lists of one element behind the other."""

    occupied: Row
    """int32[firings]"""
    offsets: Indices
    """int64[elements + 1]: where each element's begin in it."""
    job_firing: Row
    """int32[elements, active]: first firing of each active job."""
    unit: Row
    """int32[entries]: decode unit of each; int32[elements] where all entries of an element are one unit's."""
    given_by: Row
    """int32[entries]: the unit's firing"""
    taken_by: Row
    """and the element's."""
    entry_offsets: Indices
    """int64[elements + 1]: where each element's begin in them."""
    drained: Row
    """int32[elements, passes]: firing of each pass's hand-over."""


def entry_firings(
    work: WorkedJobs, elements: slice, begun: Row, given: tuple[Row, Row, Row], sheets: Sheets, *, one_unit: bool
) -> EntryFirings:
    """Firings of processing elements whom entries are given one by one, over all passes of a layer.

    ``begun`` int32[elements]: firings of each element before; ``given``: decode unit int32[entries] of each entry, its
    firing int32[entries] among those that go through the unit's chunks once, and int32[units, passes] what to add to
    that in each pass. ``one_unit``: all entries of an element are one decode unit's. ``NodeBuilder`` refuses as many
    firings as 32 bits cannot count.
    """
    begin, length = work.run_begin[elements], work.run_length[elements]
    passes, count = work.passes, len(length)
    times = np.bincount(work.job, minlength=length.shape[1])  # passes in which each job is active
    entry_offsets = np.append(0, np.cumsum(length @ times))
    offsets = np.append(0, np.cumsum(np.maximum(length, 1) @ times + passes))
    occupied = sheets.empty(int(offsets[-1]) + AHEAD)
    given_by, taken_by = (sheets.empty(int(entry_offsets[-1]) + AHEAD) for _ in range(2))
    unit = sheets.empty(count if one_unit else int(entry_offsets[-1]))
    job_firing, drained = (sheets.empty(count * size).reshape(count, size) for size in (work.job.size, passes))
    made = occupied, offsets, job_firing, unit, given_by, taken_by, entry_offsets, drained
    _entries(
        work.job,
        work.begins,
        work.least,
        begin,
        length,
        work.row,
        work.hazard,
        work.drain,
        begun,
        *given,
        one_unit,
        made,
    )
    return EntryFirings(
        occupied=occupied[:-AHEAD],
        offsets=offsets,
        job_firing=job_firing,
        unit=unit,
        given_by=given_by[:-AHEAD],
        taken_by=taken_by[:-AHEAD],
        entry_offsets=entry_offsets,
        drained=drained,
    )


@kernel
def _entries(
    worked: Any,
    begins: Any,
    least: Any,
    run_begin: Any,
    run_length: Any,
    row: Any,
    hazard: int,
    drain: Any,
    begun: Any,
    unit_of: Any,
    group: Any,
    before_pass: Any,
    one_unit: bool,
    made: Any,
) -> None:
    occupied, offsets, job_firings, units, given_by, taken_by, entry_offsets, drained = made
    for element in range(run_length.shape[0]):
        length_of, begin_of, job_firing = run_length[element], run_begin[element], job_firings[element]
        f, e, unit = offsets[element], entry_offsets[element], 0
        before = begun[element] - f
        if one_unit:
            unit = _unit_of(length_of, begin_of, unit_of)
            units[element] = unit
        for t in range(begins.size - 1):
            last_row = -1
            for a in range(begins[t], begins[t + 1]):
                j = np.uint64(worked[np.uint64(a)])
                begin, length = np.int64(begin_of[j]), np.int64(length_of[j])
                first, cycles = f + before, least[np.uint64(a)]
                job_firing[np.uint64(a)] = first
                occupied[np.uint64(f)] = 1
                if one_unit and hazard <= 1 and length <= AHEAD <= group.size - begin:
                    # most runs are short, and how short cannot be foretold: a few entries are written whether they
                    # are there or not, and written over by the next
                    given = before_pass[unit, t]
                    cycles = cycles if length > 0 else np.int32(1)
                    for k in range(AHEAD):
                        occupied[np.uint64(f + k)] = cycles
                        given_by[np.uint64(e + k)] = given + group[np.uint64(begin + k)]
                        taken_by[np.uint64(e + k)] = first + k
                else:
                    for k in range(length):
                        wait = hazard > cycles and row[begin + k] == last_row
                        last_row = row[begin + k]
                        if not one_unit:
                            unit = unit_of[begin + k]
                            units[e + k] = unit
                        occupied[f + k] = hazard if wait else cycles
                        given_by[e + k] = before_pass[unit, t] + group[begin + k]
                        taken_by[e + k] = first + k
                f += max(length, 1)
                e += length
            occupied[f] = drain[t]
            drained[element, t] = f + before
            f += 1


@kernel
def _unit_of(length_of: Any, begin_of: Any, unit_of: Any) -> int:
    # of an element's first entry
    for j in range(length_of.size):
        if length_of[j] > 0:
            return int(unit_of[begin_of[j]])
    return 0


@kernel
def group_cycles(
    ready: Any, wanted: Any, bounds: Any, chunk_offsets: Any, start_cycles: int, order: Any, unit: Any
) -> Any:
    """Decode firings from delivery cycles: entries of a chunk with one delivery cycle leave in one firing.

    ``ready`` int64[entries] counts within each chunk (`HuffmanDecoder.schedule`), or is empty where every entry has a
    cycle of its own. Entries that nobody waits for, those not in ``wanted`` (int64[wanted], rising, those of each chunk
    from ``bounds`` int64[chunks + 1] on), need no firing of their own: their cycles go to the next that is, or to the
    one that ends the chunk. Chunks are worked in ``order``, which puts those of one ``unit`` (int32[chunks]) behind one
    another. Gives (firing of each wanted entry, counted from its unit's first, int32[wanted]; occupied int32[firings]
    in that order; firings before each chunk of ``order`` int64[chunks + 1]).
    """
    chunks = chunk_offsets.size - 1
    group = np.empty(wanted.size, np.int32)
    occupied = np.empty(wanted.size + chunks, np.int32)
    before = np.empty(chunks + 1, np.int64)
    n = 0
    first = 0
    for place in range(chunks):
        c = order[place]
        before[place] = n
        if place == 0 or unit[c] != unit[order[place - 1]]:
            first = n
        begin, end = chunk_offsets[c], chunk_offsets[c + 1]
        if begin == end:  # nothing to decode, but the chunk is still opened
            occupied[n] = max(start_cycles, 1)
            n += 1
            continue
        last = np.int64(-1)
        opening = np.int64(start_cycles)
        for k in range(bounds[c], bounds[c + 1] + 1):
            i = wanted[k] if k < bounds[c + 1] else end - 1
            now = ready[i] if ready.size else i - begin
            if now != last:  # a chunk's first entry is delivered in cycle 0 or later
                occupied[n] = now - last + opening
                opening = np.int64(0)
                last = now
                n += 1
            if k < bounds[c + 1]:
                group[k] = n - 1 - first
    before[chunks] = n
    return group, occupied[:n], before


@kernel
def hand_steps(
    chunks: Any,
    offsets: Any,
    job: Any,
    step: Any,
    group: Any,
    before: Any,
    firing_of: Any,
    given_by: Any,
    taken_by: Any,
) -> None:
    """List what a decode unit gives to a lockstep array: the steps that it completes in its ``chunks``, pass by pass.

    ``offsets`` int64[chunks + 1]: those of each chunk among all; of each, ``job``, ``step`` within the column and
    ``group``, the unit's firing in a pass, int[steps]; ``before`` int32[passes]: firings before each pass;
    ``firing_of`` int32[passes, jobs]: the array's for a job's first step, -1 where it is not broadcast. Written to
    ``given_by`` and ``taken_by``, which have a place more than is needed: firings of the unit and of the array.
    """
    at = np.uint64(0)
    for t in range(before.size):
        for chunk in chunks:
            for k in range(np.uint64(offsets[chunk]), np.uint64(offsets[chunk + 1])):
                first = firing_of[t, np.uint64(job[k])]
                given_by[at] = before[t] + group[k]
                taken_by[at] = first + step[k]
                at += np.uint64(first >= 0)  # no branch, because which are cannot be foretold
