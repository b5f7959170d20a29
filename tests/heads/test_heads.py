from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from regraft.config.training import TrainConfig
from regraft.errors import ConfigError, TrainingError
from regraft.features.features import Features
from regraft.foundation.files import limited_threads
from regraft.heads import discriminant, logistic
from regraft.heads.base import (
    ClassWeight,
    Head,
    Scaling,
    Step,
    cross_entropy,
    head_of,
    registry,
    restore,
    softmax,
)
from regraft.heads.discriminant import Discriminant
from regraft.heads.logistic import LogisticRegression
from regraft.heads.logistic_objective import Problem, Solver
from regraft.heads.neighbours import Neighbours
from regraft.heads.prototype import Prototype
from regraft.heads.roots import Roots
from regraft.heads.sgd import GradientDescent


def blobs(
    count: int = 300,
    classes: int = 4,
    width: int = 12,
    seed: int = 0,
    spread: float = 1.2,
    stages: tuple[tuple[int, ...], ...] = (),
) -> Features:
    """Overlapping clusters whose features have very different scales, as pooled stages do."""
    centres = np.random.default_rng(99).normal(size=(classes, width))
    dice = np.random.default_rng(seed)
    y = dice.integers(0, classes, count)
    x = (centres[y] + spread * dice.normal(size=(count, width)) + 3) * np.logspace(-2, 2, width)
    return Features(x.astype(np.float32), y, tuple(f"c{i}" for i in range(classes)), ("",) * count, "test", stages)


def none_of(features: Features) -> Features:
    return features.select([])


@pytest.mark.parametrize("strength", [0.003, 0.1, 1.0])
@pytest.mark.parametrize("class_weight", ["none", "balanced"])
@pytest.mark.parametrize("costly", [0, 200_000])  # with the curvature of the photos, and without
def test_logistic_regression_agrees_with_scikit_learn(
    strength: float, class_weight: str, costly: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logistic, "_COSTLY", costly)
    linear_model = pytest.importorskip("sklearn.linear_model")
    train, test = blobs(), blobs(seed=1)
    rare = train.select([i for i in range(len(train)) if train.y[i] != 2 or i % 5 == 0])
    scaling = Scaling.of(rare.x)
    theirs = linear_model.LogisticRegression(
        C=strength, class_weight=None if class_weight == "none" else "balanced", tol=1e-8, max_iter=5000
    ).fit((rare.x - scaling.mean) / scaling.spread, rare.y)
    expected = theirs.predict_proba((test.x - scaling.mean) / scaling.spread)
    ours = LogisticRegression([strength], class_weight, tolerance=1e-6).fit(rare, blobs(seed=2))  # type: ignore[arg-type]
    np.testing.assert_allclose(softmax(ours.logits(test.x)), expected, atol=2e-3)


VOTES = 4
"""So many experts grade each photo of `graded`."""


def graded(count: int = 200, seed: int = 0) -> Features:
    """Two clusters, in which the probability of each label is one of 0.5, 0.75 and 1."""
    sure = np.random.default_rng(seed + 50).integers(2, VOTES + 1, count) / VOTES
    return replace(blobs(count, 2, seed=seed), certainty=sure.astype(np.float32))


def votes(features: Features) -> Features:
    """Each photo as often as there are experts, with the label that each of them gave it."""
    assert features.certainty is not None
    right = np.arange(VOTES) < features.certainty[:, np.newaxis] * VOTES
    y = np.where(right, features.y[:, np.newaxis], 1 - features.y[:, np.newaxis]).ravel()
    copies = features.select(np.repeat(np.arange(len(features)), VOTES).tolist())
    return replace(copies, y=y, certainty=None)


def test_a_probability_counts_as_the_votes_of_experts() -> None:
    train, test = graded(), graded(seed=1)
    soft = LogisticRegression([0.1], tolerance=1e-6).fit(train, none_of(train))
    hard = LogisticRegression([0.1 / VOTES], tolerance=1e-6).fit(votes(train), none_of(train))
    np.testing.assert_allclose(softmax(soft.logits(test.x)), softmax(hard.logits(test.x)), atol=2e-3)
    plain = LogisticRegression([0.1], tolerance=1e-6).fit(replace(train, certainty=None), none_of(train))
    assert abs(softmax(soft.logits(test.x)) - softmax(plain.logits(test.x))).max() > 0.1
    steps = [GradientDescent(0.1, 50, batch_size=0).fit(one, none_of(one)) for one in (train, votes(train))]
    np.testing.assert_allclose(steps[0].logits(test.x), steps[1].logits(test.x), atol=1e-4)
    logits = soft.logits(test.x)
    expected = cross_entropy(np.repeat(logits, VOTES, axis=0), votes(test).y)
    assert cross_entropy(logits, test.y, test.certainty) == pytest.approx(expected, rel=1e-5)
    assert -(test.targets() * np.log(softmax(logits))).sum(axis=1).mean() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("class_weight", ["none", "balanced"])
def test_the_gradient_by_probabilities_is_that_of_finite_differences(class_weight: ClassWeight) -> None:
    train = graded(60)
    problem = Problem(train, class_weight, Scaling.of(train.x))
    objective, dice = problem.penalised(0.1), np.random.default_rng(0)
    at = (0.3 * dice.normal(size=problem.zeros().size)).astype(np.float32)
    _, gradient = objective(at)
    for _ in range(10):
        step = dice.normal(size=at.size).astype(np.float32)
        step *= 0.02 / np.linalg.norm(step)
        found = objective(at + step)[0] - objective(at - step)[0]
        assert found == pytest.approx(2 * float(step @ gradient), abs=2e-5)


def test_labels_that_are_all_certain_give_the_same_bits() -> None:
    train, val = blobs(300, 2), blobs(100, 2, seed=1)
    sure, also = (replace(one, certainty=np.ones(len(one), np.float32)) for one in (train, val))
    for kind in (LogisticRegression, GradientDescent):
        one, other = kind().fit(train, val), kind().fit(sure, also)
        np.testing.assert_array_equal(one.weight_, other.weight_)


def test_the_strength_is_chosen_by_the_probabilities_of_val() -> None:
    train, val = blobs(100, 2, spread=2.0), replace(blobs(400, 2, seed=3), certainty=np.full(400, 0.6, np.float32))
    strengths = (0.0001, 0.001, 0.01, 0.1, 1.0)
    chosen = [LogisticRegression(strengths).fit(train, one).strength_ for one in (val, replace(val, certainty=None))]
    assert chosen[0] < chosen[1]


def test_the_strength_is_the_one_with_the_lowest_loss_on_val() -> None:
    train, val = blobs(60, spread=2.0), blobs(400, seed=3, spread=2.0)
    strengths = (0.0003, 0.001, 0.01, 0.1, 1.0)
    alone = {s: LogisticRegression([s], tolerance=1e-5).fit(train, val) for s in strengths}
    losses = {s: cross_entropy(head.logits(val.x), val.y) for s, head in alone.items()}
    chosen = LogisticRegression(strengths, tolerance=1e-5).fit(train, val)
    assert chosen.strength_ == min(losses, key=losses.__getitem__)
    assert strengths[0] < chosen.strength_ < strengths[-1]


def test_steps_are_true_and_fall() -> None:
    train, val = blobs(), blobs(seed=1)
    steps: list[Step] = []
    head = LogisticRegression([0.1]).fit(train, val, steps.append)
    assert [s.number for s in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].train_loss < steps[0].train_loss
    logits = head.logits(train.x)
    assert steps[-1].train_loss == pytest.approx(cross_entropy(logits, train.y), rel=1e-3)
    assert steps[-1].train_accuracy == pytest.approx(float((logits.argmax(1) == train.y).mean()), abs=0.01)
    assert steps[-1].val_loss == pytest.approx(cross_entropy(head.logits(val.x), val.y), rel=1e-3)


@pytest.mark.parametrize("name", ["logistic", "kernel", "sgd", "knn", "discriminant"])
@pytest.mark.parametrize("class_weight", ["balanced", "logit-adjusted"])
def test_class_weights_help_the_rare_class(name: str, class_weight: ClassWeight) -> None:
    train = blobs(600, classes=2, spread=3.0)
    rare = train.select([i for i in range(len(train)) if train.y[i] == 0 or i % 12 == 0])
    test = blobs(600, classes=2, seed=5, spread=3.0)

    def fitted(class_weight: ClassWeight) -> Head:
        return head_of(TrainConfig(head=name, class_weight=class_weight)).fit(rare, none_of(rare))

    def recall(head: Head) -> float:
        return float((head.logits(test.x).argmax(1) == 1)[test.y == 1].mean())

    weighted = fitted(class_weight)
    assert recall(weighted) > recall(fitted("none")) + 0.1
    again = restore(name, weighted.state(), 2, test.x.shape[1])
    np.testing.assert_array_equal(again.logits(test.x), weighted.logits(test.x))


@pytest.mark.parametrize("name", ["logistic", "kernel", "sgd", "knn", "discriminant"])
@pytest.mark.parametrize("class_weight", ["balanced", "logit-adjusted"])
def test_class_weights_do_not_turn_every_answer_into_a_rare_class(name: str, class_weight: ClassWeight) -> None:
    every = blobs(1000, classes=3, spread=2.0)
    kept = [i for i in range(len(every)) if every.y[i] == 0 or (every.y[i] == 1 and i % 10 == 0)]
    train, test = every.select(kept), blobs(600, classes=3, seed=5, spread=2.0)
    head = head_of(TrainConfig(head=name, class_weight=class_weight)).fit(train, none_of(train))
    answers = head.logits(test.x).argmax(1)
    assert (answers[test.y == 0] == 0).mean() > 0.5  # the common class is still found
    assert (answers == 2).mean() < 0.02  # a class without photos is never the answer


def test_a_head_of_a_plug_in_without_class_weights_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Prototype, "options", ())
    with pytest.raises(ConfigError, match="the head 'prototype' has no class weights; leave class_weight out"):
        head_of(TrainConfig(head="prototype", class_weight="balanced"))


def test_a_class_weight_changes_no_nearest_class_mean() -> None:
    train = blobs(600, classes=2, spread=3.0)
    heads = [Prototype(weight).fit(train, none_of(train)) for weight in ("none", "balanced", "logit-adjusted")]
    for head in heads[1:]:
        np.testing.assert_array_equal(head.bias_, heads[0].bias_)


def test_logit_adjustment_is_that_of_the_paper() -> None:
    train = blobs(200).select(range(150))
    plain, adjusted = (
        LogisticRegression([0.1], weight).fit(train, none_of(train)) for weight in ("none", "logit-adjusted")
    )
    shares = np.bincount(train.y) / len(train)
    np.testing.assert_allclose(
        plain.logits(train.x) - adjusted.logits(train.x), np.log(shares)[None].repeat(150, 0), atol=1e-4
    )


def test_a_knn_run_of_an_earlier_regraft_votes_as_before() -> None:
    train = blobs()
    head = registry.load("knn")().fit(train, none_of(train))
    state = {name: array for name, array in head.state().items() if name not in ("weights", "adjustment")}
    np.testing.assert_array_equal(restore("knn", state, 4, 12).logits(train.x), head.logits(train.x))


def test_a_feature_that_never_varies_does_no_harm() -> None:
    train = blobs()
    x = train.x.copy()
    x[:, 3] = 7.0
    head = LogisticRegression().fit(Features(x, train.y, train.classes, train.digests, "test"), blobs(seed=1))
    assert np.isfinite(head.logits(x)).all()


def test_discriminant_analysis_agrees_with_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a penalty and a factor it is what scikit-learn solves for."""
    analysis = pytest.importorskip("sklearn.discriminant_analysis")
    monkeypatch.setattr(discriminant, "PENALTIES", (0.0,))
    monkeypatch.setattr(discriminant, "_FACTORS", (1.0,))
    train, test = blobs(5000), blobs(seed=1)  # more than one block
    train = train.select([i for i in range(len(train)) if train.y[i] != 2 or i % 5 == 0])
    theirs = analysis.LinearDiscriminantAnalysis("lsqr").fit(train.x.astype(np.float64), train.y)
    ours = Discriminant().fit(train, test)
    assert (ours.penalty_, ours.factor_) == (0.0, 1.0)
    np.testing.assert_allclose(softmax(ours.logits(test.x)), theirs.predict_proba(test.x), atol=2e-3)


def test_discriminant_analysis_learns_from_sums_alone() -> None:
    train, val = correlated(6000, 12), correlated(500, 12, seed=3)
    other = train.select(np.random.default_rng(1).permutation(len(train)).tolist())
    one, two = (Discriminant().fit(some, val) for some in (train, other))
    np.testing.assert_allclose(softmax(one.logits(val.x)), softmax(two.logits(val.x)), atol=1e-4)
    logistic_too = LogisticRegression().fit(train, val)
    accuracies = [np.mean(head.logits(val.x).argmax(1) == val.y) for head in (one, logistic_too)]
    assert accuracies[0] > accuracies[1] - 0.05 > 0.5


@pytest.mark.parametrize("each", [1, 2])
def test_discriminant_analysis_of_classes_with_one_or_two_photos(each: int) -> None:
    every = correlated(6000, 30)
    first = [i for label in range(30) for i in np.flatnonzero(every.y == label)[:each].tolist()]
    train, test = every.select(first), correlated(1000, 30, seed=3)
    for val in (none_of(train), correlated(100, 30, seed=4)):
        logits = Discriminant().fit(train, val).logits(test.x)
        assert np.abs(logits).max() < 1000
        assert np.mean(logits.argmax(1) == test.y) > 0.2
        assert cross_entropy(logits, test.y) < np.log(30)


def test_prototype_scale_is_calibrated_on_val() -> None:
    train, val = blobs(), blobs(seed=1)
    head = Prototype().fit(train, val)
    loss = cross_entropy(head.logits(val.x), val.y)
    assert loss < cross_entropy(np.float32(10) * head.logits(val.x), val.y)
    assert loss < cross_entropy(head.logits(val.x) / np.float32(10), val.y)


def test_neighbours_choose_k_on_val_and_never_answer_with_certainty() -> None:
    train, val = blobs(), blobs(seed=1)
    head = Neighbours().fit(train, val)
    assert head.k_ > 1
    assert softmax(head.logits(val.x)).max() < 1.0


def test_gradient_descent_ends_where_logistic_regression_without_a_penalty_does() -> None:
    train, test = blobs(), blobs(seed=1)
    steps: list[Step] = []
    head = GradientDescent(learning_rate=1.0, steps=20_000, batch_size=0).fit(train, none_of(train), steps.append)
    optimum = LogisticRegression([1e4], tolerance=1e-5).fit(train, none_of(train))
    np.testing.assert_allclose(softmax(head.logits(test.x)), softmax(optimum.logits(test.x)), atol=0.02)
    assert steps[0].train_loss == pytest.approx(np.log(4), rel=1e-4)  # nothing is learned yet
    assert steps[-1].number == 20_000


def test_a_step_of_gradient_descent_sees_batch_size_photos() -> None:
    train = blobs()
    few, all_of_them = (GradientDescent(steps=1, batch_size=n).fit(train, none_of(train)) for n in (3, 0))
    assert not np.allclose(few.weight_, all_of_them.weight_)


def test_balanced_steps_give_a_rare_class_its_part() -> None:
    train = blobs(2000, classes=3, spread=4.0)
    rare = train.select([i for i in range(len(train)) if train.y[i] != 2 or i % 40 == 0])
    fitted = [GradientDescent(steps=500, balanced=balanced).fit(rare, none_of(rare)) for balanced in (False, True)]
    test = blobs(2000, classes=3, seed=1, spread=4.0)
    answers = [head.logits(test.x).argmax(axis=1) for head in fitted]
    shares = [float((answer == 2).mean()) for answer in answers]
    assert shares[0] < 0.2 < shares[1]


def test_steps_that_are_too_long_are_told() -> None:
    with pytest.raises(TrainingError, match="diverged; type a smaller learning_rate than 1e\\+38"):
        GradientDescent(1e38, steps=20, batch_size=1).fit(blobs(), blobs(seed=1))


@pytest.mark.parametrize(("count", "lengths"), [(200, (0.0, 1.0)), (401, (0.3, 1.0))])
def test_the_number_of_photos_decides_which_stages_are_used(count: int, lengths: tuple[float, ...]) -> None:
    train, test = blobs(count, stages=((4, 8),)), blobs(seed=1, stages=((4, 8),))
    train = replace(train, y=np.arange(count) % 4)
    head = LogisticRegression().fit(train, none_of(train))
    assert head.roots_ == Roots((4, 8), lengths)
    changed = test.x.copy()
    changed[:, :4] = 0.0
    assert np.array_equal(head.logits(changed), head.logits(test.x)) == (lengths[0] == 0.0)


def test_few_val_photos_choose_no_strength() -> None:
    train, val = blobs(stages=((4, 8),)), blobs(400, seed=3, stages=((4, 8),))
    chosen = {n: LogisticRegression().fit(train, val.select(range(n))).strength_ for n in (0, 6, 49, 400)}
    assert chosen[0] == chosen[6] == chosen[49] == 30.0
    assert chosen[400] != 30.0


def test_roots_have_the_length_of_their_stage() -> None:
    x = np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32)
    found = Roots((4, 5, 3), (0.5, 0.0, 2.0)).of(x)
    assert found.shape == (5, 7)
    np.testing.assert_allclose(np.linalg.norm(found[:, :4], axis=1), 0.5, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found[:, 4:], axis=1), 2.0, rtol=1e-6)
    assert (np.sign(found[:, 4:]) == np.sign(x[:, 9:])).all()
    assert not Roots((12,), (1.0,)).of(np.zeros((1, 12), np.float32)).any()
    with pytest.raises(ValueError, match="there are 11 features; wanted 12"):
        Roots((12,), (1.0,)).of(x[:, 1:])


@pytest.mark.parametrize("lengths", [(0.0, 0.0), (-1.0, 1.0), (np.nan, np.nan)])
def test_roots_of_no_stage_are_refused(lengths: tuple[float, float]) -> None:
    state = {"root_widths": np.array([4, 8]), "root_lengths": np.array(lengths, np.float32)}
    with pytest.raises(ValueError, match="name no features"):
        Roots.from_state(state)


def test_the_fit_does_not_depend_on_the_number_of_threads() -> None:
    train, val = blobs(9000, stages=((4, 8),)), blobs(300, seed=1, stages=((4, 8),))
    heads = []
    for count in (1, 3):
        with limited_threads(count):
            heads.append(LogisticRegression().fit(train, val))
    assert np.array_equal(heads[0].weight_, heads[1].weight_)
    assert np.array_equal(heads[0].bias_, heads[1].bias_)


def test_some_of_many_photos_choose_the_penalty_and_all_of_them_are_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "_ROOT_STRENGTHS", (0.3, 1.0, 3.0))  # weaker penalties are flat beyond float32
    train, val = blobs(3000, stages=((4, 8),)), blobs(500, seed=1, stages=((4, 8),))
    whole = LogisticRegression(tolerance=1e-5).fit(train, val)
    monkeypatch.setattr(logistic, "_CHOOSE_ON", 1000)
    found = LogisticRegression(tolerance=1e-5).fit(train, val)
    monkeypatch.setattr(logistic, "_ROOT_STRENGTHS", (found.strength_,))
    direct = LogisticRegression(tolerance=1e-5).fit(train, val)
    assert cross_entropy(found.logits(val.x), val.y) == pytest.approx(
        cross_entropy(whole.logits(val.x), val.y), rel=0.02
    )
    difference = np.abs(softmax(found.logits(val.x)) - softmax(direct.logits(val.x))).max()
    assert difference < 2e-4


def correlated(count: int, classes: int, seed: int = 0) -> Features:
    """Clusters in directions of different lengths, mixed into positive features of one stage, as networks have them."""
    fixed, dice = np.random.default_rng(99), np.random.default_rng(seed)
    mixing = fixed.normal(size=(30, 120)) * np.geomspace(1, 0.05, 30)[:, np.newaxis]
    centres, y = fixed.normal(size=(classes, 30)) * 0.7, dice.integers(0, classes, count)
    x = np.maximum((centres[y] + dice.normal(size=(count, 30))) @ mixing * 0.15 + 0.5, 0).astype(np.float32)
    return Features(x, y, tuple(f"c{i}" for i in range(classes)), ("",) * count, "test", ((120,),))


def test_the_curvature_saves_steps() -> None:
    train = Roots((120,), (1.0,)).of_features(correlated(2000, 20))
    problem = Problem(train, "none", Scaling.centre(train.x))
    taken: dict[bool, int] = {}
    for known in (False, True):
        solver, points = Solver(1e-6, problem.curvature() if known else None), list[object]()
        solver.solve(problem, 30.0, problem.zeros(), points.append)
        taken[known] = len(points)
    assert taken[True] <= taken[False] / 2


def test_many_classes_are_learned_as_well_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of one class falls with the number of classes: with a fixed tolerance a fit would end too soon."""
    train, val = correlated(3000, 100), correlated(600, 100, seed=3)
    found = cross_entropy(LogisticRegression().fit(train, val).logits(val.x), val.y)
    exact = cross_entropy(LogisticRegression(tolerance=1e-5).fit(train, val).logits(val.x), val.y)
    monkeypatch.setattr(logistic, "_USUAL_CLASSES", 1000)
    monkeypatch.setattr(logistic, "_COSTLY", float("inf"))
    before = cross_entropy(LogisticRegression().fit(train, val).logits(val.x), val.y)
    assert found < exact + 0.01 < before


def test_a_fit_that_takes_long_is_told_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    train = correlated(3000, 20)
    monkeypatch.setattr(logistic, "_COSTLY", 1)
    LogisticRegression().fit(train, none_of(train))
    assert not caplog.messages
    monkeypatch.setattr(logistic, "_LONG", 1e-6)
    LogisticRegression().fit(train, none_of(train))
    assert "logistic regression on 3,000 photos of 20 classes will take about 0 minutes" in caplog.text
    assert "head='discriminant' is much faster" in caplog.text


def test_features_are_overwritten_only_where_they_are_scratch() -> None:
    features = blobs(2000, width=8, stages=((3, 5),))
    roots, x = Roots((3, 5), (0.3, 1.0)), features.x.copy()
    expected = roots.of_features(features)
    assert np.array_equal(features.x, x)
    own = features.select(range(2000), scratch=True)
    found = roots.of_features(own)
    assert found.x is own.x
    assert not found.scratch
    assert np.array_equal(found.x, expected.x)
    last = features.select(range(2000), scratch=True)  # of some stages, the representation has fewer columns
    assert np.array_equal(Roots((3, 5), (0.0, 1.0)).of_features(last).x, Roots((3, 5), (0.0, 1.0)).of(x))


def test_a_warm_start_ends_at_the_same_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "_CHOOSE_ON", 1000)
    monkeypatch.setattr(logistic, "_ROOT_STRENGTHS", (0.1, 0.3))
    old = LogisticRegression().fit(
        blobs(2000, classes=3, seed=3, stages=((4, 8),)), blobs(100, classes=3, seed=4, stages=((4, 8),))
    )
    train, val = blobs(3000, stages=((4, 8),)), blobs(500, seed=1, stages=((4, 8),))
    cold = LogisticRegression(tolerance=1e-5).fit(train, val)
    steps: list[list[int]] = [[], []]
    warm = LogisticRegression(tolerance=1e-5)
    warm.start_from(old, [2, 0, 1, -1])
    warm.fit(train, val, lambda step: steps[0].append(step.number))
    again = LogisticRegression(tolerance=1e-5)
    again.start_from(cold, [0, 1, 2, 3])
    again.fit(train, val, lambda step: steps[1].append(step.number))
    assert warm.strength_ == cold.strength_
    for head in (warm, again):
        assert np.abs(softmax(head.logits(val.x)) - softmax(cold.logits(val.x))).max() < 1e-4
    assert len(steps[1]) < len(steps[0])
