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
    clock: Clock,
    budget: float,
    seconds: float,
    later: float,
    validation: float = 0.3,
    saving: float = 0.1,
    sizes: tuple[int, int] = (STEPS, PERIOD),
) -> tuple[float, list[float]]:
    """Return the seconds of a training and its learning rates; from its middle on, a step takes ``later`` seconds."""
    begin = clock.now
    rates: list[float] = []
    steps, period = sizes
    pace = Pace(CONFIG, steps, period, budget)

    def wait(fast: float) -> None:
        clock.now += fast * (later / seconds if len(rates) > steps / 2 else 1)

    wait(validation)
    while len(rates) < pace.steps:
        pace.begins(validation * (later / seconds if len(rates) > steps / 2 else 1))
        for _ in range(period):
            rates.append(pace.rate(len(rates)))
            wait(seconds)
            clock.now += COMPILING if len(rates) == 1 else 0
            pace.stepped(len(rates))
            if len(rates) >= pace.steps:
                break
        wait(validation + saving)
    wait(3 * validation)  # the blends
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


@pytest.mark.parametrize(("validation", "saving"), [(0.3, 0.1), (0.05, 1.0), (3.0, 0.1)])
def test_many_short_epochs_fill_the_budget(clock: Clock, validation: float, saving: float) -> None:
    """A plan with a thousand validations had once no time left for a second epoch."""
    taken, rates = trained(clock, 60.0, 0.05, 0.05, validation, saving, (7000, 7))
    assert 0.85 * 60 < taken < 1.1 * 60
    assert len(rates) < 7000
    assert rates[-1] < 0.1


def test_a_step_that_is_slow_once_does_not_shorten_the_training(clock: Clock) -> None:
    pace = Pace(CONFIG, STEPS, PERIOD, 100.0)
    for done in range(1, 100):
        clock.now += 10.0 if done == 50 else 0.1
        pace.stepped(done)
    assert pace.steps == STEPS
