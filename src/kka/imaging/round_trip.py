"""What a model's autoencoder leaves of a photo: into its latent space and back, with nothing drawn."""

from typing import Any

import numpy as np

from kka.imaging.canvas import Canvas, canvas_for, fitted_to
from kka.imaging.changed import Photo, composite
from kka.imaging.pipelines import LoadedPipeline
from kka.protocols import Images, Masks


def reconstruction(loaded: LoadedPipeline, photo: Photo, canvas: Canvas) -> Photo:
    """The photo, at its own size, as the model gives it back: enlarged, encoded (the mode), decoded, made smaller.

    A pipeline without an autoencoder, which draws pixels, leaves the enlarging alone.
    """
    enlarged = np.asarray(canvas.enlarged(photo))
    vae = getattr(loaded.pipeline, "vae", None)
    return fitted_to(photo, enlarged if vae is None else _through(vae, enlarged, loaded))


def empty_alteration(
    loaded: LoadedPipeline, normals: Images, masks: Masks, size: tuple[int, int] | None
) -> Images:
    """The normals (n, h, w, 3) with their reconstruction put in by the masks (n, h, w): altered, with nothing drawn."""
    canvas = canvas_for(loaded, normals.shape[1:3], size)
    images = np.empty_like(normals)
    for i, (normal, mask) in enumerate(zip(normals, masks, strict=True)):
        images[i] = composite(normal, reconstruction(loaded, normal, canvas), mask)
    return images


def _through(vae: Any, picture: Photo, loaded: LoadedPipeline) -> Photo:
    import torch

    dtype = vae.dtype
    exact = torch.float32 if dtype == torch.float16 else dtype  # the autoencoder of SDXL overflows in float16
    if exact != dtype:
        vae.to(dtype=exact)
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].to(loaded.device, exact) / 127.5 - 1
    films = any(isinstance(part, torch.nn.Conv3d) for part in vae.encoder.modules())  # Qwen-Image: one frame of a film
    with torch.no_grad():
        encoded = vae.encode(pixels[:, :, None] if films else pixels)
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        decoded = vae.decode(latents).sample
    if exact != dtype:
        vae.to(dtype=dtype)
    back = (decoded[:, :, 0] if films else decoded)[0].float().cpu().nan_to_num(-1.0)
    return ((back.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
