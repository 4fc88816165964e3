"""The paper's data sets, from the places where people have them, to the Parquet form that kka reads.

    official files --+
    hf:<dataset id> -+-> records -> counts checked -> split -> train.parquet, test.parquet, dataset.json
    a folder --------+
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kka.common.hold import held
from kka.common.progress import StageProgress
from kka.data.prepare.options import HUB, PrepareOptions
from kka.errors import UserError, unknown

WORK = ".preparing-"
"""How the names of folders begin in which pictures are unpacked."""
NAMES = ("cifar100", "oxford102", "ucm_caption")


def preparers() -> dict[str, Any]:
    """Name -> its `DataSet`."""
    from kka.data.prepare.cifar100 import CIFAR100
    from kka.data.prepare.oxford102 import OXFORD102
    from kka.data.prepare.ucm_caption import UCM_CAPTION

    return dict(zip(NAMES, (CIFAR100, OXFORD102, UCM_CAPTION), strict=True))


def prepare(
    name: str, out: Path, options: PrepareOptions | None = None, progress: StageProgress | None = None
) -> dict[str, Any]:
    """Bring the data set `name` into `out`; returns what dataset.json holds.

    Raises UserError, which says what is missing and where people get it, unless the data set is whole; with
    `options.allow_partial`, only for what cannot be used at all. Unreadable pictures are set aside by name; more than
    a tenth of them is an error. After an error, no file in `out` has changed.
    """
    options = options or PrepareOptions()
    known = preparers()
    if name not in known:
        raise unknown("data set", name, known)
    dataset = known[name]
    _refuse_to_overwrite(out, options.overwrite)
    if options.split is not None and options.split not in dataset.splits:
        raise UserError(f"split: {name} has {' and '.join(dataset.splits)}; got {options.split}")
    captioner = None
    if options.caption_model is not None:
        from kka.language.captioner import Captioner

        captioner = Captioner(options.caption_model)
    with _own(out), tempfile.TemporaryDirectory(prefix=WORK, dir=out) as work:
        _refuse_to_overwrite(out, options.overwrite)  # another process may have ended meanwhile
        found = _find(dataset, Path(work), options, progress)
        faults = _check(dataset, found, options.allow_partial)
        from kka.data.prepare.split import split
        from kka.data.prepare.write import Writer

        records, rule, left_out = split(dataset, found.records, options)
        size = options.size or dataset.size
        writer = Writer(
            dataset, out, size, captioner, (lambda d, n: progress("Storing pictures", d, n)) if progress else None
        )
        return writer.write(
            records,
            {
                "name": name,
                "source": {"from": options.source or [d.url for d in dataset.downloads], **found.source},
                "partial": bool(faults),
                "faults": faults,
                "notes": list(found.notes),
                "split": rule,
                "size": size,
                "encoding": dataset.encoding,
                "caption_model": options.caption_model,
                "set_aside": left_out,
            },
        )


@contextmanager
def _own(out: Path) -> Iterator[None]:
    """The folder is this process's own while the block runs; what killed ones left in it is removed first.

    Raises:
        UserError: another process is at it.
    """
    with held(out):
        made = not out.exists()
        out.mkdir(exist_ok=True)
        for left in out.glob(f"{WORK}*"):
            shutil.rmtree(left, ignore_errors=True)
        for left in out.glob(".*.parquet.part"):
            left.unlink(missing_ok=True)
        try:
            yield
        finally:
            if made:
                with suppress(OSError):  # it holds something
                    out.rmdir()


def _refuse_to_overwrite(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"out: expected a folder; {out} is a file")
    there = [name for name in ("train.parquet", "test.parquet") if (out / name).exists()]
    if there and not overwrite:
        raise UserError(f"out: {out} holds {' and '.join(there)} already; choose another folder, or add --overwrite")


def _find(dataset: Any, work: Path, options: PrepareOptions, progress: StageProgress | None) -> Any:
    if options.source is not None and options.source.startswith(HUB):
        from kka.data.prepare import hub

        return hub.find(dataset, options)
    if options.source is not None:
        folder = Path(options.source).expanduser()
        if not folder.is_dir():
            raise UserError(f"from: expected a folder, or hf:<dataset id>; {options.source} is neither")
        return dataset.find(dataset, folder, work, options)
    from kka.common.caches import cache_folder
    from kka.data.prepare.download import fetch

    folder = (options.downloads or cache_folder() / "downloads") / dataset.name
    for download in dataset.downloads:
        shown = (lambda d, n, name=download.name: progress(f"Getting {name}", d, n)) if progress else None
        fetch(download, folder, where=dataset.where, progress=shown)
    return dataset.find(dataset, folder, work, options)


def _check(dataset: Any, found: Any, allow_partial: bool) -> list[str]:
    from kka.data.prepare.records import count_faults

    faults = [*found.faults, *count_faults(dataset, found.records)]
    if faults and not allow_partial:
        raise UserError(
            f"{dataset.name} is not whole: {'; '.join(faults)}. {dataset.where} To go on with what is there, "
            "add --allow-partial."
        )
    return faults
