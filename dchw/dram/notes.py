"""What a result that rests on a DRAM standard must say beside its numbers."""

from __future__ import annotations

from dchw.dram.effects import of_alternatives, other_order, share_of_peak, without_unverified_rules
from dchw.dram.options import FixedMemory, Refresh
from dchw.dram.standard import Standard


def memory_notes(part: Standard | FixedMemory, order: str, refresh: Refresh) -> tuple[str, ...]:
    """Sentences on unverified timings, rules of our own and the choice of addresses and refresh, with their effects.

    Effects are worked out for this very standard (`dchw.dram.effects`), in some 50 ms the first time. Which timings
    are unverified is said by `unverified_timings`, apart: under a table in a terminal there is no room for the list.
    """
    if isinstance(part, FixedMemory):
        return ()
    notes = [_choice(part, order, refresh)]
    if part.unverified:
        notes.append(_timings(part, order, refresh))
    if part.unverified_rules:
        notes.append(_rules(part, order, refresh))
    return tuple(notes)


def unverified_timings(part: Standard | FixedMemory) -> tuple[str, ...]:
    """A sentence with the timings of a standard that were not compared with it and their clocks; none without any."""
    if isinstance(part, FixedMemory) or not part.unverified:
        return ()
    named = ", ".join(f"{name} {part.timings[name].cycles}" for name in part.unverified)
    return (f"Timings of {part.name} not compared with the standard, in clocks: {named}.",)


def _choice(std: Standard, order: str, refresh: Refresh) -> str:
    default = std.defaults
    chosen = (
        f"chosen here for {std.name}"
        if (order, refresh) == (default.mapping, default.refresh)
        else f"as asked for; {std.name} by default {default.mapping}, {default.refresh}"
    )
    other = other_order(std, order)
    compared = f", {share_of_peak(std, other, refresh):.1%} with {other}" if other != order else ""
    ways: tuple[Refresh, ...] = ("refab", "refpb")
    compared += "".join(
        f", {share_of_peak(std, order, way):.1%} with {way}"
        for way in ways
        if way != refresh and (way == "refab" or std.commands.refresh_bank is not None)
    )
    return (
        f"DRAM addresses {order}, refresh {refresh} ({chosen}): a stream of reads reaches "
        f"{share_of_peak(std, order, refresh):.1%} of peak on one channel{compared}."
    )


def _timings(std: Standard, order: str, refresh: Refresh) -> str:
    effects = "".join(
        f" With others ({std.sources[alternative.source]}): {effect}."
        for alternative, effect in zip(std.alternatives, of_alternatives(std, order, refresh), strict=True)
    )
    return (
        f"{len(std.unverified)} of {len(std.timings)} timings of {std.name} were not compared with the standard; "
        f"--json and reports list them.{effects or ' No other values of them are known.'}"
    )


def _rules(std: Standard, order: str, refresh: Refresh) -> str:
    rules = std.unverified_rules
    sources = dict.fromkeys(std.sources[rule.source or std.constraints.source] for rule in rules)
    return (
        f"{std.name}: {len(rules)} rules in force for two ranks stand in no table of the standard "
        f"({'; '.join(sources)}). Without them: {without_unverified_rules(std, order, refresh)}."
    )
