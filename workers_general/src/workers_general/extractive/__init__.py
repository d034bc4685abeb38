"""
Summaries and keywords without a model: a graph ranking selects sentences and words of the text.
"""

from workers_general.extractive.keywords import RankedKeyword, rank_keywords
from workers_general.extractive.summary import pick_sentences

__all__ = ["RankedKeyword", "pick_sentences", "rank_keywords"]
