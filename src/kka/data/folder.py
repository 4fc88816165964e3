"""The task of a folder of images, as a person has them: flat, sorted, or as MVTec AD has them.

What lies where is read by `kka.data.layout`, and what it means by `kka.data.sides`. Captions come from
`metadata.jsonl` files and their like (`kka.data.metadata`), else from the description that the user gives.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kka.common.fit import Shapes, fit_note
from kka.common.folder_words import GOOD
from kka.common.images import Source, first_few, sizes_of
from kka.common.walk import printable
from kka.data.assemble import assemble, template
from kka.data.layout import read_layout
from kka.data.metadata import METADATA, read_captions
from kka.data.request import Request, Split
from kka.data.sides import choose_sides
from kka.errors import UserError
from kka.task import SetAside, Task

MEASURED = 500
"""Photos whose shapes are looked at, at most, spread over all of them."""


def load_folder(folder: Path, request: Request) -> Task:
    """The task of a folder of images; `kka.data.sides` shows the layouts.

    Raises UserError for a folder without images, one that does not say what is normal and what is not, normal classes
    that do not exist, and normal images without a caption.
    """
    layout = read_layout(folder, source=request.source, normal=request.normal)
    captions, problems = read_captions(folder, layout.metadata, layout.files)
    sides = choose_sides(layout, request.normal, source=request.source)
    notes = sides.notes
    written = _complete(captions, sides.train, sides.normal, request, problems, notes, layout.files)
    train = _split(request.source, layout.files, sides.train, written)
    masks = {path: (layout.files[path], layout.mask_files(path)) for path in sides.test if path in layout.masks}
    test = None
    if sides.test:
        test = replace(_split(f"{request.source}/test", layout.files, sides.test, {}), masks=masks)
    request, shapes = _fitted(request, layout.files, sides.train)
    return assemble(
        request,
        folder,
        train,
        test,
        normal=sides.normal,
        native_size=False,
        set_aside=[*layout.set_aside, *problems],
        layout=sides.said,
        shapes=shapes,
        notes=notes,
    )


def _fitted(request: Request, files: Mapping[str, Path], kinds: Mapping[str, str]) -> tuple[Request, str]:
    """The request with a way into squares, by the shapes of the training photos, and what is said of it."""
    paths = list(kinds)
    step = max(1, math.ceil(len(paths) / MEASURED))
    sizes = list(sizes_of(files[path] for path in paths[::step]))
    if not sizes:
        return request, ""
    shapes = Shapes.of(sizes)
    fit = request.fit or shapes.fit
    return replace(request, fit=fit), fit_note(shapes, fit, asked=request.fit is not None) or ""


def _complete(
    captions: Mapping[str, tuple[str, ...]],
    kinds: Mapping[str, str],
    normal: set[str],
    request: Request,
    problems: Sequence[SetAside],
    notes: list[str],
    files: Mapping[str, Path],
) -> dict[str, tuple[str, ...]]:
    """A caption for every training image: its own, else (normals) a caption model's, else the description, else the
    class name.

    A flat or MVTec folder has no class name to fall back on, but for what is said of undescribed photos. Raises
    UserError, with examples, where none is left.
    """
    missing: list[str] = []
    captions = _written(captions, kinds, normal, request, files, notes)
    stood_in = undescribed = 0
    complete: dict[str, tuple[str, ...]] = {}
    for path, kind in kinds.items():
        if path in captions:
            complete[path] = captions[path]
        elif kind in normal and request.describe:
            complete[path] = (request.describe.strip(),)
        elif kind in normal and kind == GOOD and request.undescribed:
            undescribed += 1
            complete[path] = (request.undescribed,)
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
    if undescribed:
        notes.append(
            f"{undescribed} of the {len(kinds)} training images have no caption: {request.undescribed!r} stands in. "
            "Say what they show, with --describe 'a photo of …', to have captions speak of that"
        )
    if stood_in:
        notes.append(
            f"{stood_in} of the {len(kinds)} training images have no caption: "
            "the class name ('a photo of a …') stands in"
        )
    return complete


def _written(
    captions: Mapping[str, tuple[str, ...]], kinds: Mapping[str, str], normal: set[str], request: Request,
    files: Mapping[str, Path], notes: list[str],
) -> Mapping[str, tuple[str, ...]]:  # fmt: skip
    """With those that a caption model writes of the normals that have none."""
    bare = [path for path, kind in kinds.items() if kind in normal and path not in captions]
    if request.captions is None or not bare:
        return captions
    texts = request.captions([files[path] for path in bare])
    found = {path: (printable(text.strip()),) for path, text in zip(bare, texts, strict=True) if text.strip()}
    notes.append(f"{len(found)} of the {len(kinds)} training images have a caption by the caption model")
    return {**captions, **found}


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
        files=tuple(files[path] for path in paths),
        read=read,
    )
