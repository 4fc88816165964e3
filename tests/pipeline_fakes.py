"""Tiny pipelines with random weights, of the classes that alter photos, saved as they are published."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from imaging_fakes import clip_text, clip_tokenizer

SIDE = 32
"""Pixels a side at which the tiny models draw: 16 latent cells of 2 pixels."""
WIDTH = 16
"""Of every text encoder."""


def clouds(n: int, height: int, width: int) -> Any:
    """Photos of soft clouds of all colours: (n, height, width, 3), bytes."""
    noise = np.random.default_rng(0).normal(0, 500, (n, height, width, 3))
    return np.clip(ndimage.gaussian_filter(noise, (0, 3, 3, 0)) + 128, 0, 255).astype(np.uint8)


def autoencoder(channels: int = 4) -> Any:
    """Random but for its last layer, which gives back soft photos as well as a linear layer can."""
    import diffusers
    import torch

    vae = diffusers.AutoencoderKL(
        latent_channels=channels, block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4, sample_size=SIDE, shift_factor=0.1,
    )  # fmt: skip
    photos = torch.from_numpy(clouds(24, SIDE, SIDE)).permute(0, 3, 1, 2) / 127.5 - 1
    last, seen = vae.decoder.conv_out, []
    handle = last.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    with torch.no_grad():
        vae.decode(vae.encode(photos).latent_dist.mode())
        patches = torch.nn.functional.unfold(seen[0], 3, padding=1).transpose(1, 2).reshape(-1, last.weight[0].numel())
        patches = torch.cat([patches, torch.ones(len(patches), 1)], 1)
        found = torch.linalg.lstsq(patches, photos.flatten(2).transpose(1, 2).reshape(-1, 3)).solution
        last.weight.copy_(found[:-1].T.reshape(last.weight.shape))
        last.bias.copy_(found[-1])
    handle.remove()
    return vae


def unet(channels: int = 4, **more: Any) -> Any:
    import diffusers

    usual = dict(cross_attention_dim=WIDTH, attention_head_dim=4)
    return diffusers.UNet2DConditionModel(
        sample_size=SIDE // 2, in_channels=channels, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4, **{**usual, **more},
    )  # fmt: skip


def stable_diffusion(folder: Path, kind: str, channels: int = 4) -> None:
    """StableDiffusion…Pipeline by the name of its class; 4, 8 (InstructPix2Pix) or 9 (inpainting) channels."""
    import diffusers

    tokenizer = clip_tokenizer(folder.parent / f"{folder.name}-tokens")
    getattr(diffusers, kind)(
        vae=autoencoder(), text_encoder=clip_text(tokenizer), tokenizer=tokenizer, unet=unet(channels),
        scheduler=diffusers.EulerAncestralDiscreteScheduler(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip


def stable_diffusion_xl(folder: Path) -> None:
    """StableDiffusionXLPipeline: two text encoders, and times of the picture's size."""
    import diffusers
    from transformers import CLIPTextModelWithProjection

    tokenizer = clip_tokenizer(folder.parent / f"{folder.name}-tokens")
    first = clip_text(tokenizer)
    second = CLIPTextModelWithProjection(first.config)
    widths = dict(addition_embed_type="text_time", addition_time_embed_dim=4, cross_attention_dim=2 * WIDTH)
    pooled = second.config.projection_dim
    diffusers.StableDiffusionXLPipeline(
        vae=autoencoder(), text_encoder=first, text_encoder_2=second, tokenizer=tokenizer, tokenizer_2=tokenizer,
        unet=unet(**widths, projection_class_embeddings_input_dim=pooled + 6 * 4),
        scheduler=diffusers.EulerDiscreteScheduler(),
    ).save_pretrained(folder)  # fmt: skip


def flux(folder: Path, kind: str = "FluxPipeline", guidance: bool = True) -> None:
    """Flux…Pipeline: a transformer over latents taken two by two, CLIP and T5."""
    import diffusers
    import torch
    from transformers import T5Config, T5EncoderModel

    tokenizer = clip_tokenizer(folder.parent / f"{folder.name}-tokens")
    text = clip_text(tokenizer)
    t5 = T5Config(vocab_size=64, d_model=WIDTH, d_kv=8, d_ff=WIDTH, num_layers=1, num_heads=2)
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, guidance_embeds=guidance, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    with torch.no_grad():
        transformer.proj_out.weight *= 4
    getattr(diffusers, kind)(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), vae=autoencoder(), text_encoder=text,
        tokenizer=tokenizer, text_encoder_2=T5EncoderModel(t5), tokenizer_2=t5_tokenizer(), transformer=transformer,
    ).save_pretrained(folder)  # fmt: skip


def t5_tokenizer() -> Any:
    """Over single letters."""
    from transformers import T5TokenizerFast

    letters = ["▁", *"abcdefghijklmnopqrstuvwxyz ,."]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -3.0) for letter in letters)]
    return T5TokenizerFast(vocab=vocabulary, extra_ids=0)


CHECKPOINTS: dict[str, Any] = {
    "sd": lambda folder: stable_diffusion(folder, "StableDiffusionPipeline"),
    "sd-inpainting": lambda folder: stable_diffusion(folder, "StableDiffusionInpaintPipeline", 9),
    "pix2pix": lambda folder: stable_diffusion(folder, "StableDiffusionInstructPix2PixPipeline", 8),
    "sdxl": stable_diffusion_xl,
    "flux": flux,
    "kontext": lambda folder: flux(folder, "FluxKontextPipeline"),
}
"""Name -> what saves such a model into a folder."""
MEMBERS = (
    ("inpaint", "sd"), ("inpaint", "sd-inpainting"), ("inpaint", "sdxl"), ("inpaint", "flux"),
    ("img2img", "sd"), ("img2img", "sdxl"), ("img2img", "flux"), ("edit", "pix2pix"), ("edit", "kontext"),
)  # fmt: skip
"""(member, checkpoint): every way in which a photo is altered here by a pipeline."""


def checkpoint(folder: Path, name: str) -> Path:
    """The folder of the checkpoint `name` below `folder`, made if it is not there."""
    import torch

    made = folder / name
    if not made.exists():
        torch.manual_seed(0)
        CHECKPOINTS[name](made)
    return made
