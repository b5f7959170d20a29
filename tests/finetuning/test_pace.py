"""The steps of a training and their learning rates, with a clock that the tests set."""

from __future__ import annotations

import pytest

from regraft.config.finetuning import FinetuneConfig
from regraft.finetuning import pace as pacing
from regraft.finetuning.pace import Pace

CONFIG, STEPS, PERIOD, COMPILING = FinetuneConfig(learning_rate=1.0), 250, 50, 6.0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(pacing, "perf_counter", found)
    return found


def trained(
    clock: Clock, budget: float, seconds: float, later: float, validation: float = 0.3
) -> tuple[float, list[float]]:
    """Return the seconds of a training and its learning rates; from its middle on, a step takes ``later`` seconds."""
    begin = clock.now
    rates: list[float] = []
    pace = Pace(CONFIG, STEPS, PERIOD, budget)

    def validate() -> None:
        taken = validation * (later / seconds if len(rates) > STEPS / 2 else 1)
        clock.now += taken
        pace.validated(taken)

    validate()
    while len(rates) < pace.steps:
        rates.append(pace.rate(len(rates)))
        clock.now += (seconds if len(rates) <= STEPS / 2 else later) + (COMPILING if len(rates) == 1 else 0)
        pace.stepped(len(rates))
        if len(rates) % PERIOD == 0 or len(rates) >= pace.steps:
            validate()
    clock.now += 3 * validation * (later / seconds if len(rates) > STEPS / 2 else 1)  # the blends
    return clock.now - begin, rates


def test_without_a_budget_all_steps_are_taken(clock: Clock) -> None:
    _, rates = trained(clock, 0.0, 0.2, 2.0)
    assert len(rates) == STEPS
    assert rates[-1] < 0.001


def test_a_budget_that_suffices_changes_nothing(clock: Clock) -> None:
    assert trained(clock, 300.0, 0.2, 0.2)[1] == trained(clock, 0.0, 0.2, 0.2)[1]


@pytest.mark.parametrize(("seconds", "later"), [(0.2, 0.6), (0.2, 2.0), (0.3, 0.3), (1.0, 1.0), (3.0, 3.0)])
def test_a_training_on_a_slower_machine_ends_in_time_with_a_low_learning_rate(
    clock: Clock, seconds: float, later: float
) -> None:
    taken, rates = trained(clock, 60.0, seconds, later)
    assert len(rates) < STEPS
    assert 0.75 * 60 < taken < 1.1 * 60
    assert rates[-1] < 0.1


def test_a_step_that_is_slow_once_does_not_shorten_the_training(clock: Clock) -> None:
    pace = Pace(CONFIG, STEPS, PERIOD, 100.0)
    for done in range(1, 100):
        clock.now += 10.0 if done == 50 else 0.1
        pace.stepped(done)
    assert pace.steps == STEPS
