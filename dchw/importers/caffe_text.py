"""Caffe's text format: nested messages, repeated keys, comments and quoted text, every value with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dchw.quantities import FileFormatError, nearest

_TOKEN = re.compile(
    r"""(?P<space>[\s,;]+|\#[^\n]*)|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"""|(?P<word>[-+.\w/]+)|(?P<mark>[{}:])"""
)


@dataclass
class Message:
    """A message of the text format: values by key, each with its line, in order of occurrence."""

    file: str
    line: int
    fields: dict[str, list[tuple[Any, int]]] = field(default_factory=dict)

    def fault(self, text: str, line: int | None = None) -> FileFormatError:
        """An error at a line of the file."""
        return FileFormatError(f"{self.file}, line {line or self.line}: {text}")

    def all(self, key: str) -> list[Any]:
        """Every value of a key."""
        return [value for value, _ in self.fields.get(key, [])]

    def one(self, key: str, kind: type, default: Any = None) -> Any:
        """The only value of a key, of a type; ``default`` where it is absent."""
        values = self.fields.get(key, [])
        if not values:
            return default
        (value, line) = values[-1]
        if len(values) > 1:
            raise self.fault(f"expected {key} once; got it {len(values)} times; keep one", line)
        if kind is float and isinstance(value, int):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.fault(f"expected {_NAMES[kind]} for {key}; got {shown(value)}; correct it", line)
        return value

    def message(self, key: str) -> Message:
        """A nested message, empty where it is absent."""
        nested: Message = self.one(key, Message, Message(self.file, self.line))
        return nested

    def only(self, *keys: str) -> None:
        """Refuse keys that are not listed."""
        for key, values in self.fields.items():
            if key not in keys:
                raise self.fault(f"unknown key {key!r}; {nearest(key, keys)}", values[0][1])


_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Message: "{...}"}


def shown(value: Any) -> str:
    return "{...}" if isinstance(value, Message) else repr(value)


def parse(text: str, file: str) -> Message:
    """The tree of a text. Numbers, true and false become values; other words and quoted text become str."""
    root = Message(file, 1)
    stack, key, key_line, colon = [root], "", 0, False
    for kind, token, line in _tokens(text, root):
        if kind == "mark" and token == ":":
            if not key or colon:
                raise root.fault("expected a key before ':'; remove it or write the key", line)
            colon = True
        elif token == "{" and kind == "mark":
            if not key:
                raise root.fault("expected a key before '{'; write the message's name", line)
            nested = Message(file, line)
            stack[-1].fields.setdefault(key, []).append((nested, key_line))
            stack.append(nested)
            key, colon = "", False
        elif token == "}" and kind == "mark":
            if key:
                raise root.fault(f"expected a value for {key!r}; got '}}'; write 'key: value'", key_line)
            if len(stack) == 1:
                raise root.fault("'}' closes nothing; remove it", line)
            stack.pop()
        elif colon:
            stack[-1].fields.setdefault(key, []).append((_value(kind, token), line))
            key, colon = "", False
        elif key or kind != "word":
            raise root.fault(f"expected ':' or '{{' after {key!r}; got {token!r}; correct it", line)
        else:
            key, key_line = token, line
    if key:
        raise root.fault(f"{key!r} has no value; write 'key: value'", key_line)
    if len(stack) > 1:
        raise stack[-1].fault("'{' is not closed before the file ends; add '}'")
    return root


def _tokens(text: str, root: Message) -> Iterator[tuple[str, str, int]]:
    place, line = 0, 1
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise root.fault(f"unexpected character {text[place]!r}; remove it", line)
        kind = match.lastgroup or ""
        if kind != "space":
            yield kind, match.group(), line
        line += match.group().count("\n")
        place = match.end()


def _value(kind: str, token: str) -> int | float | bool | str:
    if kind == "text":
        return re.sub(r"\\(.)", r"\1", token[1:-1])
    if token in ("true", "false"):
        return token == "true"
    for number in (int, float):
        try:
            return number(token)
        except ValueError:
            continue
    return token
