"""
A linear text classifier: trained, scored on documents it has not seen, with probabilities.

    trained = train(examples, TrainingOptions())
    trained.classifier.predict(count_features(["a text"]))
"""

from workers_ml.classifier.classifier import Prediction, TextClassifier
from workers_ml.classifier.errors import NotTrainable
from workers_ml.classifier.examples import Examples
from workers_ml.classifier.metrics import Metrics, measure
from workers_ml.classifier.train import Trained, TrainingOptions, train

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
