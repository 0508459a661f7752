"""What came of trials, by kind."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dchw.quantities import DchwError

FAULT = "FAULT"


@dataclass
class Tally:
    """Trials and their outcomes by kind; faults with what is needed to repeat them."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Sentences that refused something of a kind, without their numbers."""

    def add(self, kind: str, outcome: str) -> None:
        self.outcomes[kind, outcome] += 1

    def fault(self, kind: str, what: str) -> None:
        self.add(kind, FAULT)
        self.faults.append(f"{kind}: {what}")

    def tried(self, kind: str, where: str, action: Callable[[], str]) -> None:
        """Counts what an action gives, a sentence of ours as refused, and anything else as a fault."""
        try:
            self.add(kind, action())
        except DchwError as error:
            self.add(kind, "refused")
            self.refusals[kind, "".join("#" if c.isdigit() else c for c in str(error))[:150]] += 1
        except WrongError as error:
            self.fault(kind, f"{where}: {error}")
        except Exception:
            self.fault(kind, f"{where}: {traceback.format_exc(limit=-4)}")

    def trials(self, kind: str) -> int:
        return sum(count for (of, _), count in self.outcomes.items() if of == kind)

    def lines(self) -> Iterator[str]:
        """A table: kind, trials, outcomes."""
        yield f"{'what':42} {'trials':>8}  outcomes"
        for kind in sorted({kind for kind, _ in self.outcomes}):
            found = [f"{outcome} {n:,}" for (of, outcome), n in sorted(self.outcomes.items()) if of == kind]
            yield f"{kind:42} {self.trials(kind):8,}  {', '.join(found)}"


class WrongError(Exception):
    """An outcome that must not be."""
