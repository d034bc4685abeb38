"""The classifier is split, fitted, calibrated and measured as it says."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)

from fixtures.texts import topic_examples, topic_texts, trained_on_topics
from workers_ml.classifier import Examples, NotTrainable, TrainingOptions, measure, train
from workers_ml.classifier.calibration import calibration_error, fit_temperature, probabilities
from workers_ml.classifier.confusion_plot import plot_confusion
from workers_ml.classifier.split import hold_out
from workers_ml.features import count_features

ROWS = count_features([])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_the_metrics_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    true, predicted = (np.array(side) for side in zip(*pairs, strict=True))
    metrics = measure(true, predicted, 5)
    precision, recall, f1, support = precision_recall_fscore_support(
        true, predicted, labels=range(5), zero_division=0
    )
    assert np.array_equal(metrics.confusion, confusion_matrix(true, predicted, labels=range(5)))
    assert np.allclose(metrics.precision, precision)
    assert np.allclose(metrics.recall, recall)
    assert np.allclose(metrics.f1, f1)
    assert metrics.support.tolist() == support.tolist()
    assert metrics.accuracy == pytest.approx(accuracy_score(true, predicted))
    assert metrics.macro_f1 == pytest.approx(
        f1_score(true, predicted, average="macro", zero_division=0)
    )


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30)), min_size=2, max_size=200),
    st.floats(0.05, 0.5),
    st.integers(0, 9),
)
def test_a_split_keeps_groups_whole_and_leaves_each_label_something_to_learn(
    documents: list[tuple[str, int]], share: float, seed: int
) -> None:
    labels = [label for label, _ in documents]
    if len(set(labels)) < 2:
        return
    rows = count_features([""] * len(documents))
    examples = Examples.of(rows, labels, [str(group) for _, group in documents])
    try:
        held_out = hold_out(examples, share, seed)
    except NotTrainable:
        return
    assert np.array_equal(held_out, hold_out(examples, share, seed))
    for group in np.unique(examples.groups):
        assert len(set(held_out[examples.groups == group].tolist())) == 1
    assert set(examples.labels[~held_out].tolist()) == set(examples.labels.tolist())
    assert 0 < held_out.sum() < len(documents)


def test_a_split_is_stratified_and_seeded() -> None:
    examples = topic_examples(300)
    held_out = hold_out(examples, 0.2, 0)
    assert np.bincount(examples.labels[held_out]).tolist() == [20, 20, 20]
    assert not np.array_equal(held_out, hold_out(examples, 0.2, 1))


def test_the_last_documents_of_a_label_are_learnt_from_though_their_group_would_fit() -> None:
    labels = ["rare"] + ["common"] * 100
    groups = [f"group-{number // 11}" for number in range(101)]
    examples = Examples.of(count_features([""] * 101), labels, groups)
    for seed in range(10):
        held_out = hold_out(examples, 0.2, seed)
        assert not held_out[0]
        assert held_out.sum() == 22


def test_one_group_alone_cannot_be_split() -> None:
    with pytest.raises(NotTrainable, match="1 groups"):
        hold_out(topic_examples(30, ["all"] * 30), 0.2, 0)


def test_what_was_trained_predicts_what_it_has_not_seen() -> None:
    trained = trained_on_topics(300)
    assert trained.metrics.accuracy > 0.9
    assert (trained.trained_on, trained.held_out) == (240, 60)
    new = topic_texts(60, seed=1)
    found = trained.classifier.predict(count_features([text for _, text in new]))
    right = [each.label == label for each, (label, _) in zip(found, new, strict=True)]
    assert sum(right) > 54
    assert all(0 < each.probability <= 1 for each in found)


def test_training_again_gives_the_same_bits() -> None:
    one, two = trained_on_topics(), trained_on_topics()
    assert one.classifier.weights.tobytes() == two.classifier.weights.tobytes()
    assert one.classifier.temperature == two.classifier.temperature


def test_training_reports_each_class() -> None:
    reported: list[tuple[int, int]] = []
    train(topic_examples(60), TrainingOptions(), lambda done, total: reported.append((done, total)))
    assert reported == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_the_likeliest_labels_come_first_and_sum_to_one() -> None:
    classifier = trained_on_topics().classifier
    (best,) = classifier.predict_top(count_features(["rose tulip soil"]), 5)
    assert best[0].label == "garden"
    likely = [each.probability for each in best]
    assert likely == sorted(likely, reverse=True)
    assert sum(likely) == pytest.approx(1)


def test_one_label_or_none_cannot_be_learnt() -> None:
    with pytest.raises(NotTrainable, match="only 'a'"):
        Examples.of(count_features(["x", "y"]), ["a", "a"], [None, None])
    with pytest.raises(NotTrainable, match="no labelled document"):
        Examples.of(ROWS, [], [])
    texts = [f"word{number}" for number in range(40)]
    labels = ["a", "b"] * 20
    with pytest.raises(NotTrainable, match="lower min_df"):
        train(Examples.of(count_features(texts), labels, [None] * 40), TrainingOptions())


def test_a_temperature_makes_probabilities_true() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 4000)
    logits = rng.normal(size=(4000, 3))
    logits[np.arange(4000), true] += 1.0
    too_sure = (logits * 5).astype(np.float32)
    temperature = fit_temperature(too_sure, true)
    assert 4 < temperature < 6
    right = too_sure.argmax(axis=1) == true
    before = calibration_error(probabilities(too_sure, 1.0).max(axis=1), right)
    after = calibration_error(probabilities(too_sure, temperature).max(axis=1), right)
    assert after < 0.04
    assert before > 0.2


def test_a_confusion_matrix_is_drawn_whatever_the_labels_are() -> None:
    trained = trained_on_topics()
    labels = ["a\nb\x00", "北京", "x" * 300]
    data = plot_confusion(trained.metrics.confusion, labels)
    assert data is not None
    assert data.startswith(b"\x89PNG")
    with Image.open(BytesIO(data)) as picture:
        picture.load()
        assert picture.width == picture.height < 600
    many = np.zeros((101, 101), np.int64)
    assert plot_confusion(many, [str(number) for number in range(101)]) is None
