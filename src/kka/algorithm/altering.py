"""Eq. 4 on photos: which normal a caption alters, and the pictures with their masks. Nothing is painted twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kka.algorithm.pictures import drawn_by, size_of_batches
from kka.algorithm.records import Representative
from kka.common.cache import ImageCache, picture_key, pixel_hash
from kka.common.mapped import empty
from kka.common.progress import Progress
from kka.common.workers import Copies
from kka.errors import UserError
from kka.protocols import Altered, Alters, Images, Masks


@dataclass(frozen=True, kw_only=True)
class AlteredPictures:
    """The pictures of one call, in the order of their captions."""

    images: Images
    masks: Masks
    keys: tuple[str, ...]
    """Of each in the cache."""
    made: int
    """Made in this call; the others lay in the cache."""


def members_of_prompts(
    representatives: Sequence[Representative], clusters: np.ndarray
) -> dict[str, np.ndarray]:
    """Prompt -> the normals, ascending, of the clusters of those representatives that it was made from."""
    found: dict[str, np.ndarray] = {}
    for row in representatives:
        of_this = clusters == clusters[row.normal]
        found[row.prompt] = found.get(row.prompt, np.zeros(len(clusters), bool)) | of_this
    return {prompt: np.flatnonzero(chosen) for prompt, chosen in found.items()}


def choose_normals(
    prompts: Sequence[str], members: Mapping[str, np.ndarray], normals: int, *, seeds: Sequence[int]
) -> list[int]:
    """Of each caption the normal that it alters, by its seed: one of its prompt's, else one of all."""
    everyone = np.arange(normals)
    return [
        int(np.random.default_rng(seed).choice(members.get(prompt, everyone)))
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]


def alter_pictures(
    model: Alters,
    normals: Images,
    captions: Sequence[str],
    *,
    seeds: Sequence[int],
    cache: ImageCache | None = None,
    progress: Progress | None = None,
    copies: Copies | None = None,
) -> AlteredPictures:
    """Normal i altered as caption i says with seed i, from the cache where it lies there. Peak memory: one batch.

    `copies`: of the model on other machines, which alter in its place.

    Raises:
        UserError: a model whose pictures or masks are not uint8 of the normals' shape.
    """
    keys = [
        picture_key(model.identity, caption, seed, pixel_hash(normal))
        for caption, seed, normal in zip(captions, seeds, normals, strict=True)
    ]
    images, masks = empty(normals.shape), empty(normals.shape[:3])
    done, missing = 0, []
    for i, key in enumerate(keys):
        stored = None if cache is None else _stored(cache, key)
        if stored is None:
            missing.append(i)
            continue
        images[i], masks[i] = stored
        done += 1
    size = size_of_batches(model, len(missing), copies)
    batches = [missing[start : start + size] for start in range(0, len(missing), size)]
    items = ((normals[places], [captions[i] for i in places], [seeds[i] for i in places]) for places in batches)
    for number, made in drawn_by(model, copies, alter_batch, items, len(batches)):
        places = batches[number]
        _check(made, normals[places], model)
        images[places], masks[places] = made.images, made.masks
        if cache is not None:
            for i in places:
                _store(cache, keys[i], images[i], masks[i])
        done += len(places)
        if progress is not None:
            progress(done, len(keys))
    return AlteredPictures(images=images, masks=masks, keys=tuple(keys), made=len(missing))


def alter_batch(model: Alters, normals: Images, captions: Sequence[str], seeds: Sequence[int]) -> Altered:
    return model.alter(normals, captions, seeds=seeds)


def _check(made: Altered, normals: Images, model: Alters) -> None:
    for what, got, shape in (("pictures", made.images, normals.shape), ("masks", made.masks, normals.shape[:3])):
        if got.dtype != np.uint8 or got.shape != shape:
            raise UserError(
                f"image model {model.identity}: expected uint8 {what} of shape {shape}, as the normals are; "
                f"got {got.dtype} of shape {got.shape}"
            )


def _stored(cache: ImageCache, key: str) -> tuple[np.ndarray, np.ndarray] | None:
    image = cache.get(key)
    mask = None if image is None else cache.get(_mask_key(key))
    return None if image is None or mask is None else (image, mask[..., 0])


def _store(cache: ImageCache, key: str, image: np.ndarray, mask: np.ndarray) -> None:
    """The mask first: a picture that is there has one."""
    cache.put(_mask_key(key), np.repeat(mask[..., None], 3, axis=2))
    cache.put(key, image)


def _mask_key(key: str) -> str:
    return picture_key("mask", key, 0)
