"""
`python bench/similarity.py`: builds and queries of the similarity index, beside scikit-learn.

The corpus is made of the docstrings of the standard library; where `--documents` is more
than these, further ones mix the sentences of two. The peer is TfidfVectorizer (words and pairs of
words, as ours) with NearestNeighbors (cosine, brute force, which is the only way for sparse rows).
Both are asked in turns for the neighbours of whole documents, one at a time, in one process with
one BLAS thread. Also printed: how many of a docstring's ten neighbours are of its own module.
"""

from __future__ import annotations

import argparse
import ast
import gc
import os
import random
import re
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import TypeVar

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestNeighbors

from api_shared.storage import open_storage
from workers_ml.documents import Document
from workers_ml.index import IndexFiles, SimilarityIndex, update_index

T = TypeVar("T")

K = 10


def docstrings() -> Iterator[tuple[str, str]]:
    """Module (the top one) and text of each docstring of the standard library."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if {"site-packages", "test", "tests", "idlelib", "lib2to3"} & set(parts):
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text and len(text) > 80:
                    yield parts[0].removesuffix(".py"), text


def corpus(size: int) -> tuple[list[str], list[str]]:
    """Modules and texts."""
    unique = dict.fromkeys(docstrings())
    modules, texts = [module for module, _ in unique], [text for _, text in unique]
    rng = random.Random(1)
    sentences = [re.split(r"(?<=[.:])\s+", text) for text in texts]
    for _ in range(size - len(texts)):
        one, other = rng.randrange(len(sentences)), rng.randrange(len(sentences))
        mixed = sentences[one] + sentences[other]
        rng.shuffle(mixed)
        modules.append(modules[one])
        texts.append(" ".join(mixed))
    return modules[: size or None], texts[: size or None]


@dataclass(frozen=True)
class Run:
    """`times_s` is of each query; `same_module` the share of neighbours."""

    name: str
    build_s: float
    open_s: float
    times_s: list[float]
    same_module: float

    @property
    def p50_s(self) -> float:
        return median(self.times_s)

    def __str__(self) -> str:
        p99 = sorted(self.times_s)[int(0.99 * len(self.times_s))]
        return (
            f"{self.name:12} build {self.build_s:6.2f} s   open {self.open_s:5.2f} s   "
            f"query p50 {1000 * self.p50_s:7.2f} ms   p99 {1000 * p99:7.2f} ms   "
            f"same module {self.same_module:.3f}"
        )


def run_ours(texts: list[str], modules: list[str], asked: list[int]) -> Run:
    documents = [Document(f"{number:07}", text) for number, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder:
        files = IndexFiles(open_storage(f"file:{folder}"), "bench")
        _, build_s = timed(lambda: update_index(files, documents, is_incremental=False))
        index, open_s = timed(lambda: SimilarityIndex.open(files))
        times, same = [], []
        for row in asked:
            started = time.perf_counter()
            found = index.similar_to_document(documents[row].id, K)
            times.append(time.perf_counter() - started)
            same += [modules[int(each.document_id)] == modules[row] for each in found]
    return Run("ours", build_s, open_s, times, fmean(same))


def run_peer(texts: list[str], modules: list[str], asked: list[int]) -> Run:
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    peer = NearestNeighbors(n_neighbors=K + 1, metric="cosine", algorithm="brute")
    matrix, build_s = timed(lambda: vectors.fit_transform(texts))
    peer.fit(matrix)
    times, same = [], []
    for row in asked:
        started = time.perf_counter()
        found = peer.kneighbors(matrix[row], return_distance=False)[0].tolist()
        times.append(time.perf_counter() - started)
        same += [modules[each] == modules[row] for each in found if each != row][:K]
    return Run("scikit-learn", build_s, 0.0, times, fmean(same))


def timed(call: Callable[[], T]) -> tuple[T, float]:
    gc.collect()
    started = time.perf_counter()
    value = call()
    return value, time.perf_counter() - started


def main(size: int, rounds: int, queries: int) -> None:
    modules, texts = corpus(size)
    asked = random.Random(2).sample(range(len(texts)), min(queries, len(texts)))
    mean = fmean(len(text) for text in texts)
    print(f"{len(texts):,} documents of {len(set(modules))} modules, {mean:.0f} characters each")
    ratios: dict[str, list[float]] = {"build": [], "query p50": []}
    for _ in range(rounds):
        ours, peer = run_ours(texts, modules, asked), run_peer(texts, modules, asked)
        print(ours, peer, sep="\n", flush=True)
        ratios["build"].append(peer.build_s / ours.build_s)
        ratios["query p50"].append(peer.p50_s / ours.p50_s)
    for name, values in ratios.items():
        low, middle, high = min(values), median(values), max(values)
        print(f"scikit-learn / ours, {name}: {middle:.1f} ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=0, help="default: the docstrings alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    main(options.documents, options.rounds, options.queries)
