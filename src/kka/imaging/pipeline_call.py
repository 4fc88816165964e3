"""A pipeline is called for some captions.

Each picture has a random generator of its own, on the CPU, so that it depends on its caption, seed and photo alone; on
one device a batch of another size changes it by rounding at most.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from kka.algorithm.pictures import REFUSED
from kka.errors import UserError
from kka.imaging.pipelines import LoadedPipeline, quiet
from kka.protocols import Images


def call(loaded: LoadedPipeline, captions: Sequence[str], *, seeds: Sequence[int], **more: Any) -> Images:
    """(n, h, w, 3), at the size that the pipeline draws.

    What its safety checker refuses comes out in the colour that says so, and what is not finite black, with a warning.

    Args:
        more: Further arguments of the pipeline, such as the photos.

    Raises:
        UserError: the device is full.
    """
    import torch

    arguments = {**loaded.arguments, **more}
    if loaded.negative_prompt is not None:
        arguments["negative_prompt"] = [loaded.negative_prompt] * len(captions)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    try:
        with quiet():
            output = loaded.pipeline(prompt=list(captions), generator=generators, output_type="pt", **arguments)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{loaded.identity}: expected room on {loaded.device} for {len(captions)} pictures at a time; got "
            f"{error}. Give a smaller batch_size or size, or drawing.economy (offload, 4bit)."
        ) from error
    made = output.images.float().cpu()
    finite = made.isfinite().flatten(1).all(1)
    if not finite.all():
        warnings.warn(
            f"{loaded.path}: {int((~finite).sum())} of {len(captions)} pictures came out non-finite in "
            f"{loaded.dtype} and are set aside; try dtype='bfloat16' or 'float32'",
            stacklevel=4,
        )
        made[~finite] = 0
    pictures: Images = (made.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    refused = np.array(getattr(output, "nsfw_content_detected", None) or [False] * len(captions), bool)
    if refused.any():
        pictures[refused] = REFUSED
    return pictures
