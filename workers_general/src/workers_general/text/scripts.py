"""Character classes of scripts, for regular expressions."""

MARKS = (
    "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0963\u0966-\u0dff\u0e31-\u0eff"
)
"""Vowel signs and accents that `\\w` does not match; Hindi, Tamil and Thai words need them."""

SINGLE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Han, Hiragana and Katakana: written without spaces, so that each character is a word."""

CJK_SIGNS = "\u3000-\u303f\uff00-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
"""Punctuation of those scripts."""
