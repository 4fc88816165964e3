"""A folder of images, as a person has them: flat, as MVTec AD has them, or with a sub-folder for each class.

    photos/**/*.jpg                                        all are normal; no test set
    train/good/*, test/good/*, test/<defect>/*             MVTec AD: "good" is normal, the rest of test/ anomalous
    train/<class>/**, test/<class>/**, and normal classes  the other training classes are knowledge

Captions come from `metadata.jsonl` files (`kka.data.metadata`), else from the description that the user gives.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kka.common.images import SUFFIXES, Source, first_few
from kka.data.assemble import GOOD, Request, Split, assemble, template
from kka.data.metadata import METADATA, read_captions
from kka.data.split import choose_normal, fold
from kka.errors import UserError
from kka.task import SetAside, Task


def load_folder(folder: Path, request: Request) -> Task:
    """The task of a folder of images; see the module's text for the layouts.

    Raises UserError for a folder without images, one that mixes what is normal with what is not, normal classes that
    do not exist, and normal images without a caption.
    """
    files, unreadable = _walk(folder)
    images = [file for file in files if file.suffix.lower() in SUFFIXES]
    if not images:
        seen = f"{len(files)} other files" if files else "no files"
        reasons = f" Not readable: {first_few(unreadable)}." if unreadable else ""
        raise UserError(
            f"no images in {request.source}: expected train.parquet and test.parquet, or images "
            f"({', '.join(sorted(SUFFIXES))}); got {seen}.{reasons}"
        )
    relative = {_shown(file, folder): file for file in images}
    metadata = [file for file in files if file.name == METADATA]
    captions, problems = read_captions(folder, metadata, relative)
    notes: list[str] = []
    if (folder / "train").is_dir():
        train_kinds, test_kinds = _by_class(relative, notes)
        normal = _choose_normal(request, set(train_kinds.values()))
    else:
        _refuse_a_mixture(folder, request, relative)
        train_kinds, test_kinds, normal = dict.fromkeys(relative, GOOD), {}, {GOOD}
    written = _complete(captions, train_kinds, normal, request, problems, notes)
    train = _split(request.source, relative, train_kinds, written)
    test = _split(f"{request.source}/test", relative, test_kinds, {}) if test_kinds else None
    return assemble(
        request,
        folder,
        train,
        test,
        normal=normal,
        native_size=False,
        set_aside=[*unreadable, *problems],
        notes=notes,
    )


def _walk(folder: Path) -> tuple[list[Path], list[SetAside]]:
    """All visible files below, sorted, and the folders that cannot be entered. Links are followed, each once."""
    unreadable: list[SetAside] = []

    def note(error: OSError) -> None:
        unreadable.append(SetAside(path=_shown(Path(error.filename), folder), reason=error.strerror or str(error)))

    files: list[Path] = []
    visited = {folder.resolve()}
    for parent, folders, names in os.walk(folder, onerror=note, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in list(folders):
            real = Path(parent, name).resolve()
            if real in visited:
                folders.remove(name)
            visited.add(real)
        files += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(files), unreadable


def _shown(path: Path, folder: Path) -> str:
    """The path below `folder`, with "/"; bytes that are no UTF-8 text are escaped, so that it can be printed."""
    return os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")


def _by_class(relative: Mapping[str, Path], notes: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Path -> class of the images in train/ and in test/. What belongs to neither goes into `notes`."""
    train: dict[str, str] = {}
    test: dict[str, str] = {}
    unlabelled = elsewhere = 0
    for path in relative:
        side, *inner = path.split("/")
        kind = inner[0] if len(inner) > 1 else GOOD
        if side == "train" and inner:
            train[path] = kind
        elif side == "test" and len(inner) > 1:
            test[path] = kind
        elif side == "test" and inner:
            unlabelled += 1
        else:
            elsewhere += 1
    if unlabelled:
        notes.append(f"{unlabelled} images in test/ are in no class folder and are not used")
    if elsewhere:
        notes.append(f"{elsewhere} images outside train/ and test/ are not used")
    return train, test


def _choose_normal(request: Request, classes: set[str]) -> set[str]:
    if not classes:
        raise UserError(f"no images in {request.source}/train: expected the training images there")
    if not request.normal and GOOD in classes:
        return {GOOD}
    return choose_normal(request.normal, {fold(c): {c} for c in classes}, shown=sorted(classes))


def _refuse_a_mixture(folder: Path, request: Request, relative: Mapping[str, Path]) -> None:
    """A folder without train/ is taken as normal throughout, so it must not hold a test set or other classes."""
    if request.normal:
        raise UserError(
            f"normal: {request.source} has no train/<class> folders to choose among; without them all its images are "
            f"normal. Leave normal out, or sort the images into train/<class>; got {', '.join(request.normal)}"
        )
    inner = sorted({Path(path).parts[0] for path in relative if "/train/" in path})
    if inner:
        some = ", ".join(inner[:20])
        raise UserError(f"{request.source} holds several data sets, each with its own train/; choose one of: {some}")
    if any(path.startswith("test/") for path in relative):
        raise UserError(f"{request.source} has test/ but no train/: expected the normal training images in train/good")


def _complete(
    captions: Mapping[str, tuple[str, ...]],
    kinds: Mapping[str, str],
    normal: set[str],
    request: Request,
    problems: Sequence[SetAside],
    notes: list[str],
) -> dict[str, tuple[str, ...]]:
    """A caption for every training image: its own, else the description (normals), else the class name.

    A flat or MVTec folder has no class name to fall back on. Raises UserError, with examples, where none is left.
    """
    missing: list[str] = []
    stood_in = 0
    complete: dict[str, tuple[str, ...]] = {}
    for path, kind in kinds.items():
        if path in captions:
            complete[path] = captions[path]
        elif kind in normal and request.describe:
            complete[path] = (request.describe.strip(),)
        elif kind in normal and kind == GOOD:
            missing.append(path)
        else:
            stood_in += 1
            complete[path] = (template(kind.replace("_", " ")),)
    if missing:
        faults = f" {METADATA}: {first_few(tuple(problems))}." if problems else ""
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(
            f"{len(missing)} of the {len(kinds)} training images in {request.source} have no caption: "
            f"{', '.join(missing[:3])}{more}.{faults} Give one for all, --describe 'a photo of …', or write "
            f'{METADATA} beside them, with lines such as {{"file_name": "a.jpg", "text": "a photo of …"}}'
        )
    if stood_in:
        notes.append(
            f"{stood_in} of the {len(kinds)} training images have no caption: "
            "the class name ('a photo of a …') stands in"
        )
    return complete


def _split(
    where: str, files: Mapping[str, Path], kinds: Mapping[str, str], captions: Mapping[str, tuple[str, ...]]
) -> Split:
    paths = tuple(kinds)

    def read(positions: Sequence[int]) -> Iterator[Source]:
        return ((paths[i], files[paths[i]]) for i in positions)

    return Split(
        where=where,
        paths=paths,
        kinds=tuple(kinds.values()),
        captions=tuple(captions.get(path, ()) for path in paths),
        read=read,
    )
