"""Texts of any language: their sentences, words and language, and parts that fit a model."""
