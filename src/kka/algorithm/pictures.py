"""Eq. 4: x = f_I(c), captions to pictures. Nothing is drawn twice; what a safety filter blanks is set aside.

An `ImageModel` is asked in batches for the pictures that the cache does not hold; an `ImageLibrary` is asked which
of its pictures are nearest. Peak memory is one batch at the model's own size.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from kka.common.cache import ImageCache, Picture, picture_key
from kka.common.images import fitted
from kka.common.mapped import empty, taken
from kka.common.progress import Progress
from kka.common.workers import Copies
from kka.errors import UserError
from kka.protocols import DrawsInBatches, IgnoresWords, ImageLibrary, ImageModel, Images

M = TypeVar("M")

BATCH = 64
"""Pictures asked for at a time from a model that has no `batch_size` of its own."""
FLAT = 2
"""A picture whose channels each span at most this many grey levels shows nothing."""
REFUSED = (255, 0, 255)
"""The colour, all over, of a picture that its model's safety checker refused: a stored picture says so itself."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The usable pictures of one call, in the order of their captions: `images[j]` shows `captions[kept[j]]`."""

    images: Images
    kept: tuple[int, ...]
    """The indexes of the captions that `images` show, ascending."""
    keys: tuple[str, ...]
    """Of each image: its key in the library, or in the cache."""
    set_aside: tuple[tuple[int, str], ...]
    """(index of the caption, reason) of each picture that cannot be used."""
    drawn: int
    """Pictures that the model drew, or the library gave, for this call; those set aside included."""
    from_cache: int
    """Pictures that the cache held already."""


class _Made(NamedTuple):
    indexes: list[int]
    """Of the captions that the picture shows: more than one where a caption stands twice with one seed."""
    picture: Picture
    cached: bool


def draw_pictures(
    model: ImageModel,
    captions: Sequence[str],
    *,
    seeds: Sequence[int],
    taken: Collection[str] = (),
    cache: ImageCache | None = None,
    size: tuple[int, int] | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
    copies: Copies | None = None,
) -> Drawn:
    """Draw caption i with seed i, for all i. The pictures depend neither on the batches nor on the cache.

    `taken`: keys of library pictures that were given before and must not be given again.
    `cache`: where pictures are looked up and stored. A library's pictures are not cached: they exist already.
    `size`: (height, width) of the result. Pictures of another size are cut to its aspect around their centre and
    resized with antialiasing. None: as the model draws them, which must then be of one size.
    `copies`: of the model on other machines, which draw in its place. (A library is asked here.)
    `batch_size`: pictures asked for at a time, and then cached. None: the model's own `batch_size`, else `BATCH`.
    Raises UserError for a model whose pictures are not uint8 (n, h, w, 3).
    """
    if len(seeds) != len(captions):
        raise UserError(f"seeds: expected one for each of the {len(captions)} captions; got {len(seeds)}")
    if batch_size is None:
        batch_size = size_of_batches(model, len(captions), copies)
    if batch_size < 1:
        raise UserError(f"batch_size: expected 1 or more; got {batch_size}")
    if isinstance(model, ImageLibrary):
        keys = model.retrieve(captions, seeds=seeds, taken=taken)
        made = _look_up(model, keys, batch_size)
    else:
        keys = [picture_key(model.identity, c, s) for c, s in zip(captions, seeds, strict=True)]
        made = _draw(model, captions, seeds, keys, cache, batch_size, copies)
    return _collect(made, keys, size, progress)


def size_of_batches(model: object, pictures: int, copies: Copies | None) -> int:
    """How many pictures are asked for at a time: as the model draws them best; of another, so that all copies draw."""
    if isinstance(model, DrawsInBatches):
        return model.batch_size
    return BATCH if copies is None else max(1, min(BATCH, pictures // (4 * copies.number)))


def _look_up(library: ImageLibrary, keys: Sequence[str], batch_size: int) -> Iterator[_Made]:
    for start in range(0, len(keys), batch_size):
        batch = list(keys[start : start + batch_size])
        for offset, picture in enumerate(_checked(library.fetch(batch), len(batch), library)):
            yield _Made([start + offset], picture, cached=False)


def _draw(
    model: ImageModel,
    captions: Sequence[str],
    seeds: Sequence[int],
    keys: Sequence[str],
    cache: ImageCache | None,
    batch_size: int,
    copies: Copies | None,
) -> Iterator[_Made]:
    """Each distinct key once: from the cache if it is there, else drawn in full batches and stored at once."""
    indexes: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        indexes.setdefault(key, []).append(index)
    missing = []
    for key, places in indexes.items():
        stored = cache.get(key) if cache is not None else None
        if stored is not None:
            yield _Made(places, stored, cached=True)
        else:
            missing.append(key)
    batches = [missing[start : start + batch_size] for start in range(0, len(missing), batch_size)]
    first = ([indexes[key][0] for key in batch] for batch in batches)
    items = (([captions[i] for i in places], [seeds[i] for i in places]) for places in first)
    for number, pictures in drawn_by(model, copies, draw_batch, items, len(batches)):
        for key, picture in zip(batches[number], _checked(pictures, len(batches[number]), model), strict=True):
            if cache is not None:
                cache.put(key, picture)
            yield _Made(indexes[key], picture, cached=False)


def draw_batch(model: ImageModel, captions: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
    """What the model gives, not looked at yet."""
    return model.draw(captions, seeds=seeds)


def drawn_by(
    model: M, copies: Copies | None, draw: Callable[..., Any], items: Iterable[tuple[Any, ...]], number: int
) -> Iterator[tuple[int, Any]]:
    """Number and `draw(model, *item)` of each of so many items: by the model in turn, or by its copies as it comes.
    What they ignore of words, the model counts."""
    if copies is None:
        for place, item in enumerate(items):
            yield place, draw(model, *item)
        return
    for place, (made, ignored) in copies.each(_counted, ((draw, *item) for item in items), most=number):
        if isinstance(model, IgnoresWords):
            model.ignored_words += ignored
        yield place, made


def _counted(model: Any, draw: Callable[..., Any], *item: Any) -> tuple[Any, int]:
    """On another machine: what was made, and how many words were ignored."""
    before = model.ignored_words if isinstance(model, IgnoresWords) else 0
    made = draw(model, *item)
    return made, model.ignored_words - before if isinstance(model, IgnoresWords) else 0


def _checked(pictures: np.ndarray, expected: int, model: ImageModel) -> Images:
    """What the model returned, if it kept the contract."""
    pictures = np.asarray(pictures)
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[::3] != (expected, 3):
        raise UserError(
            f"image model {model.identity}: expected uint8 pictures of shape ({expected}, h, w, 3); "
            f"got {pictures.dtype} of shape {pictures.shape}"
        )
    return pictures


def _collect(
    made: Iterator[_Made], keys: Sequence[str], size: tuple[int, int] | None, progress: Progress | None
) -> Drawn:
    """Put the pictures, resized, in the order of the captions, and set the unusable ones aside."""
    images = np.zeros((0, *(size or (0, 0)), 3), np.uint8)
    reasons: dict[int, str] = {}
    done = from_cache = made_now = 0
    for indexes, picture, cached in made:
        if done == 0:
            images = empty((len(keys), *(size or picture.shape[:2]), 3))
        fitted = fit_picture(picture, size) if size else picture
        if fitted.shape != images.shape[1:]:
            raise UserError(
                f"size: expected one to resize to, as the image model's pictures differ in size "
                f"({images.shape[1:3]} and {fitted.shape[:2]}); got None"
            )
        images[indexes] = fitted
        if reason := unusable(picture):
            reasons.update(dict.fromkeys(indexes, reason))
        from_cache += cached
        made_now += not cached
        done += len(indexes)
        if progress is not None:
            progress(done, len(keys))
    kept = [i for i in range(len(keys)) if i not in reasons]
    return Drawn(
        images=taken(images, kept) if reasons else images,
        kept=tuple(kept),
        keys=tuple(keys[i] for i in kept),
        set_aside=tuple(sorted(reasons.items())),
        drawn=made_now,
        from_cache=from_cache,
    )


def unusable(picture: Picture) -> str | None:
    """Why a picture shows nothing, or None. It depends on the pixels alone, so a cached picture is judged alike."""
    high, low = picture.max(axis=(0, 1)).astype(int), picture.min(axis=(0, 1)).astype(int)
    if (high - low).max() > FLAT:
        return None
    if (picture == REFUSED).all():
        return "refused by the model's safety checker"
    if high.max() <= FLAT:
        return "black: refused by a safety filter, or not finite"
    return "constant: one colour all over"


def fit_picture(picture: Picture, size: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"]:
    """`picture` cut to the aspect of `size` (height, width) around its centre and resized with antialiasing."""
    height, width = size
    return np.asarray(fitted(Image.fromarray(picture), height, width))


def fit_pictures(images: Images, size: tuple[int, int]) -> Images:
    """Each of `images` (n, h, w, 3) as by `fit_picture`; the same array where they have that size."""
    if images.shape[1:3] == size or not len(images):
        return images
    found = empty((len(images), *size, 3))
    for i, image in enumerate(images):
        found[i] = fit_picture(np.ascontiguousarray(image), size)
    return found
