"""Data sets of the hub's format, opened by `datasets` from a folder: columns, labels and parts are mapped to ours."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

import kka.data.prepare as preparing
from kka.data.prepare import prepare
from kka.data.prepare.options import Columns, PrepareOptions
from kka.errors import UserError
from prepare_fakes import SETS, opened, pixels, rows_of, small


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiny sets count as whole, and `datasets` keeps its files in this test's folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(preparing, "preparers", lambda: {name: small(dataset) for name, dataset in SETS.items()})
    yield


def upload(folder: Path, parts: dict[str, dict[str, list[Any]]], features: dict[str, Any] | None = None) -> Path:
    """Parquet files named as the hub names them."""
    (folder / "data").mkdir(parents=True)
    for part, columns in parts.items():
        kinds = datasets.Features(features) if features is not None else None
        rows = datasets.Dataset.from_dict(columns, features=kinds)
        rows.to_parquet(str(folder / "data" / f"{part}-00000-of-00001.parquet"))
    return folder


def encoded(seed: int) -> dict[str, Any]:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels(seed)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def test_cifar_by_class_name(tmp_path: Path) -> None:
    """The hub's columns are img and fine_label; its classes count by name, whatever their order."""
    names = list(reversed(SETS["cifar100"].label_names))
    features = {"img": datasets.Image(), "fine_label": datasets.ClassLabel(names=names)}
    parts = {
        part: {"img": [encoded(1000 * offset + i) for i in range(n)], "fine_label": [i % 100 for i in range(n)]}
        for offset, (part, n) in enumerate((("train", 200), ("test", 100)))
    }
    folder = upload(tmp_path / "up", parts, features)
    card = prepare("cifar100", tmp_path / "out", PrepareOptions(source=f"hf:{folder}"))
    assert card["source"]["columns"]["label"] == ["fine_label"] and card["images"] == {"train": 200, "test": 100}
    for i, row in enumerate(rows_of(tmp_path / "out", "test")):
        assert row["label"] == 99 - i and row["label_name"] == names[i]
        assert (opened(row) == pixels(1000 + i)).all()


def flowers(first: int, column: str = "label") -> dict[str, dict[str, list[Any]]]:
    numbers = range(first, 102 + first)
    return {
        part: {
            "image": [encoded(1000 * n + k) for k in numbers],
            column: list(numbers),
            "text": [f"{part} {k}" for k in numbers],
        }
        for n, part in enumerate(("train", "validation", "test"))
    }


@pytest.mark.parametrize("first", [0, 1])
def test_oxford_by_number(tmp_path: Path, first: int) -> None:
    """Some uploads count classes from 0, the official files from 1: all flowers would be one class off."""
    folder = upload(tmp_path / "up", flowers(first))
    card = prepare("oxford102", tmp_path / "out", PrepareOptions(source=f"hf:{folder}", split="official", size=32))
    assert card["images"] == {"train": 204, "test": 102} and card["captions"] == {"own": 306}
    rows = rows_of(tmp_path / "out", "test")
    assert [row["label"] for row in rows] == list(range(1, 103))
    assert rows[0]["captions"] == [f"test {first}"]


def test_what_cannot_be_mapped_is_told(tmp_path: Path) -> None:
    """Columns of other names, ambiguous numbers and unknown classes: the error says what to give."""
    parts = flowers(1, column="kind")
    folder = upload(tmp_path / "a", parts)
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"columns.label: expected a column of .* image, kind, text; got none of fine"):
        prepare("oxford102", out, PrepareOptions(source=f"hf:{folder}"))
    chosen = Columns(label="kind", captions=("text",))
    prepare("oxford102", out, PrepareOptions(source=f"hf:{folder}", columns=chosen, size=32))
    few = {part: {c: v[:50] for c, v in columns.items()} for part, columns in parts.items()}
    folder = upload(tmp_path / "b", few)
    with pytest.raises(UserError, match=r"columns.label_base: expected 0 or 1"):
        prepare("oxford102", tmp_path / "c", PrepareOptions(source=f"hf:{folder}", columns=chosen))
    strange = {part: {**columns, "kind": [f"weed {v}" for v in columns["kind"]]} for part, columns in few.items()}
    folder = upload(tmp_path / "d", strange)
    with pytest.raises(UserError, match="by name or number; got 'weed 1'"):
        prepare("oxford102", tmp_path / "c", PrepareOptions(source=f"hf:{folder}", columns=chosen))


def test_one_part_is_no_split(tmp_path: Path) -> None:
    """An upload with train alone would leave the test empty; several columns of captions are one list."""
    names = ["Dense Residential" if n == "denseresidential" else n for n in SETS["ucm_caption"].label_names]
    kinds = [name for name in names for _ in range(3)]
    columns = {"image": [encoded(i) for i in range(63)], "label": kinds, "a": kinds, "b": [k.upper() for k in kinds]}
    folder = upload(tmp_path / "up", {"train": columns})
    options = PrepareOptions(source=f"hf:{folder}", columns=Columns(captions=("a", "b")), size=32)
    card = prepare("ucm_caption", tmp_path / "out", options)
    assert card["split"]["rule"] == "random" and card["images"] == {"train": 42, "test": 21}
    row = next(row for row in rows_of(tmp_path / "out", "test") if row["label"] == 6)
    assert row["captions"] == ["Dense Residential", "DENSE RESIDENTIAL"]


def test_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that cannot be reached is told in words."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"from: 'nobody/nothing' cannot be loaded. Expected a data set of the Hugging"):
        prepare("cifar100", tmp_path / "out", PrepareOptions(source="hf:nobody/nothing"))
