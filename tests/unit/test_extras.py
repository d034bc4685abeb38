"""What a missing extra says: its name, and what to install."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from api_shared.storage import StorageUnavailable, open_storage
from workers_ml.documents import MissingExtra, read_documents
from workers_ml.projects.predictions import prediction_writer


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "x.parquet").touch()
    with pytest.raises(MissingExtra, match=r"install workers-ml\[parquet\]"):
        list(read_documents(tmp_path / "x.parquet"))
    with (
        pytest.raises(MissingExtra, match=r"install workers-ml\[parquet\]"),
        prediction_writer(io.BytesIO(), "parquet"),
    ):
        pass


def test_an_object_store_without_obstore_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StorageUnavailable, match=r"install api-shared\[objects\]"):
        open_storage("s3://bucket")
