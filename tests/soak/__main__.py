"""The command line of the soak."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable

import tests.soak
from tests.soak.files import soak_files
from tests.soak.interruptions import soak_full_disks, soak_kills
from tests.soak.machines import soak_machines
from tests.soak.tally import FAULT, Tally

PARTS: dict[str, tuple[Callable[[Tally, float, int], None], float]] = {
    "machines": (soak_machines, 0.55),
    "files": (soak_files, 0.1),
    "kills": (soak_kills, 0.2),
    "full-disks": (soak_full_disks, 0.15),
}
"""Each part with its share of the time."""


def main() -> int:
    """Run the parts asked for; 1 where anything went wrong."""
    options = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description=tests.soak.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--minutes", type=float, default=10, help="of wall-clock time in all (default: 10)")
    options.add_argument("--seed", type=int, default=0, help="another seed, other trials (default: 0)")
    options.add_argument("--part", action="append", choices=sorted(PARTS), help="only this part (repeatable)")
    asked = options.parse_args()
    chosen = {name: PARTS[name] for name in asked.part or PARTS}
    whole = sum(share for _, share in chosen.values())
    tally = Tally()
    try:
        for run, share in chosen.values():
            run(tally, time.monotonic() + 60 * asked.minutes * share / whole, asked.seed)
    except KeyboardInterrupt:
        print("stopped; until then:")
    print("\n".join(tally.lines()))
    kind = "whole machine"
    if made := tally.trials(kind):
        print(f"{tally.outcomes[kind, 'refused'] / made:.1%} of the machines refused, most often with:")
        ours = Counter({sentence: count for (of, sentence), count in tally.refusals.items() if of == kind})
        for sentence, count in ours.most_common(3):
            print(f"  {count:,}: {sentence}")
    faults = sum(count for (_, outcome), count in tally.outcomes.items() if outcome == FAULT)
    print(f"{faults} faults")
    for text in tally.faults[:20]:
        print(text)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
