"""Sums of timing names (``nCL + nBL_min + 2 - nCWL``): the only arithmetic a standard file may contain."""

from __future__ import annotations

import re
from collections.abc import Mapping

_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_]\w*)|([-+*()]))")


def names_in(text: str) -> frozenset[str]:
    """Timing names an expression mentions."""
    return frozenset(re.findall(r"[A-Za-z_]\w*", text))


def evaluate(text: str, values: Mapping[str, int]) -> int:
    """The value of an expression of whole numbers, names, ``+ - *`` and parentheses.

    Raises ValueError saying what was expected where, for anything else; nothing is ever executed.
    """
    tokens: list[tuple[str, str]] = []
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(
                f"expected names, whole numbers, + - * and parentheses; got {text[at:].strip()[0]!r} in {text!r}"
            )
        number, name, sign = match.groups()
        tokens.append(("number", number) if number else ("name", name) if name else (sign, sign))
        at = match.end()
    tokens.append(("end", "the end"))
    position = 0

    def take(*kinds: str) -> tuple[str, str] | None:
        nonlocal position
        if tokens[position][0] in kinds:
            position += 1
            return tokens[position - 1]
        return None

    def term() -> int:
        if token := take("number"):
            return int(token[1])
        if token := take("name"):
            if token[1] not in values:
                raise ValueError(f"unknown timing {token[1]!r} in {text!r}")
            return values[token[1]]
        if take("-"):
            return -term()
        if take("("):
            inside = total()
            if not take(")"):
                raise ValueError(f"expected ')' before {tokens[position][1]} in {text!r}")
            return inside
        raise ValueError(f"expected a name or a number; got {tokens[position][1]} in {text!r}")

    def product() -> int:
        value = term()
        while take("*"):
            value *= term()
        return value

    def total() -> int:
        value = product()
        while sign := take("+", "-"):
            value = value + product() if sign[0] == "+" else value - product()
        return value

    result = total()
    if tokens[position][0] != "end":
        raise ValueError(f"expected + - or *; got {tokens[position][1]!r} in {text!r}")
    return result
