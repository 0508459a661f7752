"""Words of flip-flops read through a multiplexer: register files, queues, small tables."""

from __future__ import annotations

from dataclasses import dataclass

from dchw.technology.figure import Figure, combine
from dchw.technology.logic import Logic


@dataclass(frozen=True, kw_only=True)
class RegisterWords:
    """Energy of one read and one write of a word, area, leakage, delay of the read multiplexer."""

    read_pj: Figure
    write_pj: Figure
    area_mm2: Figure
    leakage_mw: Figure
    delay_ns: Figure


def register_words(logic: Logic, entries: int, bits: int, read_ports: int = 1) -> RegisterWords:
    """``entries`` words of ``bits``; a write clocks one word, a read switches one path of the multiplexer tree.

    The write decoder is not counted.
    """
    register, mux = logic.register(bits), logic.mux(entries, bits)
    return RegisterWords(
        read_pj=mux.energy_pj,
        write_pj=register.energy_pj,
        area_mm2=combine((register.area_mm2 * entries, mux.area_mm2 * read_ports)),
        leakage_mw=combine((register.leakage_mw * entries, mux.leakage_mw * read_ports)),
        delay_ns=mux.delay_ns,
    )
