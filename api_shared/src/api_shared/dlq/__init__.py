"""Dead letters as an operator works with them: read, judged, put back, purged."""

from api_shared.dlq.letter import DeadLetter, DeadMessage, Kind, LetterFilter, has_ended, letter_of
from api_shared.dlq.pile import DeadLetterPile, PileRefused
from api_shared.dlq.requeue import Answer, Outcome, next_round, put_back, requeue_job

__all__ = [
    "Answer",
    "DeadLetter",
    "DeadLetterPile",
    "DeadMessage",
    "Kind",
    "LetterFilter",
    "Outcome",
    "PileRefused",
    "has_ended",
    "letter_of",
    "next_round",
    "put_back",
    "requeue_job",
]
