"""The three data sets as the Hugging Face hub has them, through `datasets`: columns and labels mapped to ours.

Column names differ from upload to upload: `USUAL` is the whole table of those tried, and --columns overrides it. Files
are read as they lie (Parquet, image folders, …); code that comes with a data set is never run.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from kka.data.prepare.options import HUB, PrepareOptions
from kka.data.prepare.records import DataSet, Found, Record, compact
from kka.errors import UserError

USUAL = {
    "image": ("image", "img", "picture"),
    "label": ("fine_label", "label", "labels", "class", "category"),
    "captions": ("captions", "caption", "sentences", "raw", "text"),
}
"""Ours -> the names tried, in order."""
SIDES: dict[str, Literal["train", "test"]] = {
    "train": "train", "training": "train", "validation": "test", "val": "test", "valid": "test", "test": "test",
}  # fmt: skip
"""The hub's parts -> ours."""
VALIDATION = frozenset({"validation", "val", "valid"})


def find(dataset: DataSet, options: PrepareOptions) -> Found:
    """The records of `--from hf:<id or folder>`. Raises UserError when it cannot be loaded or mapped."""
    assert options.source is not None
    name = options.source.removeprefix(HUB)
    parts = _load(name)
    columns = {part: _columns(rows.column_names, options, name) for part, rows in parts.items()}
    values = [value for part, rows in parts.items() for value in _label_values(rows, columns[part]["label"][0])]
    labels = iter(_labels(values, dataset, options.columns.label_base))  # of all parts at once: one may lack a class
    records: list[Record] = []
    for part, rows in parts.items():
        captions = _captions(rows, columns[part]["captions"])
        images = _undecoded(rows, columns[part]["image"][0])
        records += [
            Record(
                name=f"{part}_{i:05d}.bin",
                label=next(labels),
                side=_side(part, dataset) if len(parts) > 1 else None,  # one part is no split
                load=lambda i=i, images=images: _content(images[i]),  # type: ignore[misc]
                captions=captions[i],
            )
            for i in range(len(rows))
        ]
    used = {ours: list(theirs) for chosen in columns.values() for ours, theirs in chosen.items()}
    return Found(records=records, source={"columns": used, "parts": {part: len(rows) for part, rows in parts.items()}})


def _side(part: str, dataset: DataSet) -> Literal["train", "test"] | None:
    if dataset.name == "oxford102" and part in VALIDATION:
        return "train"  # as with the official files
    return SIDES.get(part)


def _load(name: str) -> dict[str, Any]:
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        path = Path(name).expanduser()
        return dict(datasets.load_dataset(str(path) if path.is_dir() else name))
    except Exception as error:  # datasets and the hub's client raise many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"from: {name!r} cannot be loaded. Expected a data set of the Hugging Face hub (owner/name) that can be "
            "reached from here, or a folder in its format: check the spelling and the network, run `hf auth login` for "
            f"a gated one. datasets says: {reason}"
        ) from error
    finally:
        if shown:
            datasets.enable_progress_bars()


def _columns(there: Sequence[str], options: PrepareOptions, name: str) -> dict[str, tuple[str, ...]]:
    given = {
        "image": (options.columns.image,) if options.columns.image else (),
        "label": (options.columns.label,) if options.columns.label else (),
        "captions": options.columns.captions,
    }
    chosen: dict[str, tuple[str, ...]] = {}
    for ours, asked in given.items():
        usual = [column for column in USUAL[ours] if column in there]
        chosen[ours] = tuple(asked) or tuple(usual[:1])
        wrong = [column for column in chosen[ours] if column not in there]
        if wrong or (not chosen[ours] and ours != "captions"):
            raise UserError(
                f"columns.{ours}: expected a column of {name}, which has {', '.join(there)}; "
                f"got {', '.join(wrong) or 'none of ' + ', '.join(USUAL[ours])}"
            )
    return chosen


def _labels(values: list[Any], dataset: DataSet, base: int | None) -> list[int]:
    """Our labels: by class name where there are names, else by number."""
    ours = dataset.by_name()
    named = [ours.get(compact(value)) if isinstance(value, str) else None for value in values]
    if all(label is not None for label in named):
        return [label for label in named if label is not None]
    try:
        numbers = [int(value) for value in values]
    except (TypeError, ValueError) as error:
        strange = next(value for value, label in zip(values, named, strict=True) if label is None)
        raise UserError(
            f"columns.label: expected the classes of {dataset.name}, by name or number; got {strange!r}"
        ) from error
    return _by_number(numbers, dataset, base)


def _label_values(rows: Any, column: str) -> list[Any]:
    """The labels as they are stored; of a ClassLabel, their names."""
    names = getattr(rows.features[column], "names", None)
    values = list(rows[column])
    return values if names is None else [None if v is None or v < 0 else names[v] for v in values]


def _by_number(numbers: list[int], dataset: DataSet, base: int | None) -> list[int]:
    n = len(dataset.label_names)
    low, high = min(numbers, default=0), max(numbers, default=0)
    first = base if base is not None else 0 if low == 0 else 1 if high == n else None
    if first is None:
        raise UserError(
            f"columns.label_base: expected 0 or 1, the number of the first of the {n} classes; the labels, {low} to "
            f"{high}, do not tell"
        )
    if low < first or high >= first + n:
        raise UserError(f"columns.label: expected numbers from {first} to {first + n - 1}; got {low} to {high}")
    return [number - first + dataset.first_label for number in numbers]


def _captions(rows: Any, columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    captions: list[tuple[str, ...]] = [()] * len(rows)
    for column in columns:
        for i, value in enumerate(rows[column]):
            texts = value if isinstance(value, list | tuple) else [value]
            written = (text.get("raw") if isinstance(text, dict) else text for text in texts)
            captions[i] += tuple(t.strip() for t in written if isinstance(t, str) and t.strip())
    return captions


def _undecoded(rows: Any, column: str) -> Any:
    import datasets

    if isinstance(rows.features[column], datasets.Image):
        rows = rows.cast_column(column, datasets.Image(decode=False))
    return rows.select_columns([column])


def _content(row: dict[str, Any]) -> bytes | Path:
    (value,) = row.values()
    if isinstance(value, bytes):
        return value
    content = value.get("bytes") if isinstance(value, dict) else None
    path = value.get("path") if isinstance(value, dict) else value
    if content is None and isinstance(path, str) and path:
        return Path(path)
    return content or b""  # nothing there: set aside as an empty file
