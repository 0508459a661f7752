"""Does the soak see what it looks for? A minute of it is no part of the suite; that it can fail is."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

import tests.soak.__main__ as command
import tests.soak.machines as machines
from dchw.quantities import DchwError
from tests.soak.files import DAMAGE, absurd, damaged
from tests.soak.tally import Tally, WrongError
from tests.soak.verbs import torn


def test_a_machine_is_a_number_and_most_are_not_refused() -> None:
    tally = Tally()
    for number in range(12):
        tally.tried("machine", str(number), lambda number=number: machines.machine_trial(number))
    assert tally.faults == []
    assert tally.outcomes["machine", "equal"] >= 9


def test_engines_that_differ_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    right = machines.run_program

    def later(program, engine, **options):  # type: ignore[no-untyped-def]
        timing = right(program, engine, **options)
        return replace(timing, cycles=timing.cycles + 1) if engine == "fast" else timing

    monkeypatch.setattr(machines, "run_program", later)
    with pytest.raises(WrongError, match="the engines differ"):
        machines.machine_trial(1)


def test_a_sentence_is_a_refusal_and_a_traceback_a_fault() -> None:
    def refuse() -> str:
        raise DchwError("where: expected 1; got 23; mend it")

    tally = Tally()
    tally.tried("a", "seed 1", refuse)
    tally.tried("a", "seed 2", lambda: str(1 / 0))
    assert tally.outcomes == {("a", "refused"): 1, ("a", "FAULT"): 1}
    assert "seed 2" in tally.faults[0]
    assert "ZeroDivisionError" in tally.faults[0]
    assert tally.refusals["a", "where: expected #; got ##; mend it"] == 1
    assert any("FAULT 1" in line for line in tally.lines())


def test_what_was_tried_until_ctrl_c_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(tally: Tally, until: float, seed: int) -> None:
        tally.add("whole machine", "equal")
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "PARTS", {"machines": (stopped, 1.0), "files": (stopped, 1.0)})
    monkeypatch.setattr("sys.argv", ["soak"])
    assert command.main() == 0
    said = capsys.readouterr().out
    assert said.startswith("stopped; until then:")
    assert "equal 1" in said


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_changes_a_file(kind: str) -> None:
    whole = bytes(range(200))
    assert all(damaged(whole, kind, random.Random(seed)) != whole for seed in range(20))


def test_absurd_values_reach_every_depth() -> None:
    value = ["name", [[3, 0, [20, 5, 5], {"stride": [2, 2]}]]]
    found = {str(absurd(value, random.Random(seed))) for seed in range(300)}
    assert len(found) > 60
    assert any(text.startswith("['name', [[3, 0, [20, 5, 5], {'stride': [2") and text != str(value) for text in found)


def test_half_a_file_is_torn_and_the_one_before_is_not() -> None:
    whole = {"a.csv": b"1,2\n3,4\n"}
    assert torn({"a.csv": b"1,2\n"}, whole, {}) == ["a.csv"]
    assert torn({"a.csv": b"older"}, whole, {"a.csv": b"older"}) == []
    assert torn(whole, whole, {}) == []
    assert torn({"b.csv": b"x"}, whole, {}) == ["b.csv"]
