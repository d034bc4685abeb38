"""
A linear text classifier: trained, scored on documents it has not seen, with probabilities.

    trained = train(examples, TrainingOptions())
    trained.classifier.predict(count_features(["a text"]))
"""

from .classifier import Prediction, TextClassifier
from .errors import NotTrainable
from .examples import Examples
from .metrics import Metrics, measure
from .train import Trained, TrainingOptions, train

__all__ = [
    "Examples",
    "Metrics",
    "NotTrainable",
    "Prediction",
    "TextClassifier",
    "Trained",
    "TrainingOptions",
    "measure",
    "train",
]
