"""The leak check that runs before a detector is trained: no test image, and no word of one, in what it learns from.

Images are compared by pixel hash, so that another file name or format hides nothing. A caption leaks when the test
images alone have it: a sentence that also describes training images ("a photo of a bear") tells nothing of the test.
"""

from collections.abc import Iterable, Mapping

from kka.algorithm.captions import normalise
from kka.common.cache import pixel_hash
from kka.errors import UserError
from kka.protocols import Images
from kka.task import Task


def check_images(task: Task, used: Mapping[str, Images | None]) -> int:
    """How many images were checked. `used`: name -> images, beside the task's own normals and knowledge.

    Raises:
        UserError: one of them is a test image; names where, and how many.
    """
    if task.test is None:
        return 0
    sealed = {pixel_hash(image) for image in task.test.images}
    parts: dict[str, Images | None] = {"the normals": task.normals, **used}
    if task.knowledge is not None:
        parts["the image bank"] = task.knowledge.images
    checked = 0
    for name, images in parts.items():
        if images is None:
            continue
        found = [i for i, image in enumerate(images) if pixel_hash(image) in sealed]
        checked += len(images)
        if found:
            raise UserError(
                f"leak: {len(found)} of the {len(images)} images of {name} are test images, pixel for pixel "
                f"(the first at place {found[0]}). Nothing was trained on them. Remove them, or make that part anew."
            )
    return checked


def check_captions(corpus: Iterable[str], test: Iterable[str], training: Iterable[str]) -> int:
    """How many captions were checked: `corpus` is what a language model learns from.

    Raises:
        UserError: one of them is a caption of test images and of no training image.
    """
    secret = {normalise(caption) for caption in test} - {normalise(caption) for caption in training}
    texts = list(corpus)
    found = [text for text in texts if normalise(text) in secret]
    if found:
        raise UserError(
            f"leak: {len(found)} captions of the language model's corpus describe test images and no training image, "
            f"such as {found[0]!r}. Nothing was trained. Train the language model on training captions alone."
        )
    return len(texts)
