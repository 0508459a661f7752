"""What there is to say about a network that is read: one line of a kind, however many layers it is about."""

from __future__ import annotations

from collections.abc import Mapping

MOST_NAMED = 8
"""So many layers of one kind of note are named; the count is of all."""


class Notes:
    """Notes in the order in which their kinds came up."""

    def __init__(self) -> None:
        self._subjects: dict[str, list[str]] = {}

    def say(self, line: str) -> None:
        """Note something about the network; said again it stays one line."""
        self._subjects.setdefault(line, [])

    def about(self, kind: str, subject: str) -> None:
        """Note something that is true of several: the line says ``kind``, how many they are, and names the first."""
        self._subjects.setdefault(kind, []).append(subject)

    def used_again(self, again: Mapping[str, int]) -> None:
        """Note which layers are stored once and used several times; ``again``: how often beyond the first time."""
        if again:
            used = ", ".join(f"{layer} ({count + 1} times)" for layer, count in again.items())
            self.say(f"stored once and used several times: {used}")

    def lines(self) -> tuple[str, ...]:
        """Every note."""
        return tuple(kind + _listed(subjects) for kind, subjects in self._subjects.items())


def _listed(subjects: list[str]) -> str:
    if not subjects:
        return ""
    more = f" and {len(subjects) - MOST_NAMED:,} more" if len(subjects) > MOST_NAMED else ""
    return f" ({len(subjects):,}): {', '.join(subjects[:MOST_NAMED])}{more}"
