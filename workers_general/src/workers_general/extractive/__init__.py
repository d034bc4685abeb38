"""
Summaries and keywords with no model: what of a text stands for it, chosen by a graph ranking.

Nothing is written that the text does not say.
"""

from workers_general.extractive.keywords import RankedKeyword, rank_keywords
from workers_general.extractive.summary import pick_sentences

__all__ = ["RankedKeyword", "pick_sentences", "rank_keywords"]
