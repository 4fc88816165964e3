"""What a detector trains with instead of generated anomalies, to tell what those are worth: noise, textures, real ones.

Each control draws from a generator of its own, so that a run and an experiment of one seed have the same.
"""

import numpy as np

from kka.algorithm.textures import texture_images
from kka.common.mapped import taken
from kka.protocols import Images
from kka.seeding import derive_seed
from kka.task import Knowledge, Task


def noise_images(task: Task, count: int, *, seed: int) -> Images:
    """`count` pictures of random pixels, of the size of the normals."""
    shape = (count, *task.normals.shape[1:])
    return _generator(seed).integers(0, 256, shape, dtype=np.uint8)


def texture_controls(task: Task, count: int, *, seed: int) -> Images:
    """`count` textures of the size of the normals: something else altogether, where no other pictures are given."""
    height, width = task.normals.shape[1:3]
    return texture_images(height, width, count, seed=derive_seed(seed, "controls"))


def real_images(knowledge: Knowledge, count: int, *, seed: int) -> Images:
    """`count` real images of the known classes at random, or all; of a larger count the first drawn are the same."""
    chosen = _generator(seed).permutation(len(knowledge.images))[:count]
    return taken(knowledge.images, np.sort(chosen))


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, "controls"))
