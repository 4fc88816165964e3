"""Trains a small text-to-image model from nothing, and saves it as a Stable Diffusion pipeline of diffusers.

First an autoencoder; then, on its latent pictures (each computed once, plain and mirrored), text encoder and UNet by
flow matching (Lipman et al. 2023): at a time t in (0, 1), mostly logit-normal (Esser et al. 2024), the network sees
(1 - t) x + t noise and the caption, and learns noise - x. A share of the captions is left out, for guidance.
"""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float16, UInt8
from torch import Tensor

from kka.common.device import autocast_dtype, batch_at, choose_device, resident, seeded, sent, wait_for
from kka.common.files import replacing
from kka.common.progress import StageProgress
from kka.errors import UserError
from kka.imaging.diffusers import SAMPLES
from kka.imaging.fitting import Fit, Fitted, batch_of, generator_of
from kka.imaging.networks import LATENT_CHANNELS, PLACES, TIMES, autoencoder, pipeline, unet
from kka.imaging.published import RECOMMENDED
from kka.imaging.sheet import write_sheet
from kka.imaging.training_folder import VERSION, require_free, training_folder
from kka.language.clip import clip_text_encoder, encode, train_clip_tokenizer
from kka.language.loading import no_progress_bars
from kka.seeding import derive_seed
from kka.settings.image_training import ImageTrainingSettings
from kka.task import Knowledge

LEAST = 10
"""Pictures that there must be."""
CROPS = 2
"""The autoencoder learns from crops of half the side: it is made of convolutions alone."""
LATENT_NOISE = 0.05
"""Added to latents of deviation 1 in the autoencoder's training: what is drawn is never exact."""
UNIFORM = 0.2
"""Share of the times that are uniform: logit-normal ones hardly come near 1, where a caption's colour is decided."""
ROWS, COLUMNS = 6, 6
"""Captions of a sheet of samples, and pictures drawn of each."""
STAGES = ("autoencoder", "drawing")


@dataclass(frozen=True, kw_only=True)
class ImageTrainingReport:
    """What a training did."""

    parameters: int
    pictures: int
    captions: int
    fitted: Mapping[str, Fitted]
    """Of each of STAGES."""
    psnr: float
    """Of the training pictures after the autoencoder, in dB."""
    device: torch.device
    dtype: torch.dtype


def train_image_model(
    knowledge: Knowledge,
    out: Path,
    *,
    settings: ImageTrainingSettings,
    origin: Mapping[str, Any],
    resume: bool = False,
    progress: StageProgress | None = None,
    say: Callable[[str], None] | None = None,
) -> ImageTrainingReport:
    """Train on `knowledge` and write the model folder `out` at once when done.

    Checkpoints and sheets of samples lie in `<out>.training` until then. A killed training that is resumed gives the
    model of an uninterrupted one, to the last bit on one machine (on a GPU sums may round otherwise).

    Args:
        knowledge: Captioned pictures, of `settings.size` pixels a side: all that the model may know.
        origin: Plain facts on where they came from, kept with the model and compared on resuming.
        say: Called with a line of text, now and then.

    Raises:
        UserError: fewer than ten pictures; something in the way of `out`; another configuration or other pictures than
            the training was begun with; a held folder; a full disk; a loss that is not finite.
    """
    require_free(out, resume=resume)
    if len(knowledge.images) < LEAST:
        raise UserError(
            f"images train: expected at least {LEAST} captioned pictures to learn from; got {len(knowledge.images)}"
        )
    side = settings.size
    if knowledge.images.shape[1:3] != (side, side):
        raise UserError(f"images train: expected pictures of {side} pixels a side; got {knowledge.images.shape[1:3]}")
    config = {**origin, **dataclasses.asdict(settings), "pictures": knowledge.digest, "version": VERSION}
    with training_folder(out, config, resume=resume) as work:
        training = _Training(knowledge, settings, work, progress, say or (lambda text: None))
        if say is not None:
            minutes = max(1, round(training.expected_seconds() / 60))
            say(f"about {minutes} minute{'s' * (minutes > 1)} in all on this machine")
        report = training.run()
        facts = {
            "steps": settings.drawing_steps, "guidance": settings.guidance, "samples": training.sheet_captions,
            "psnr": round(report.psnr, 2), "trained": config,
        }  # fmt: skip
        with replacing(out) as part, no_progress_bars():
            training.pipeline().save_pretrained(part)
            (part / RECOMMENDED).write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")
            training.sheet(part / SAMPLES)
            for file in part.rglob("*"):
                file.chmod(0o755 if file.is_dir() else 0o644)  # safetensors makes its files private
    shutil.rmtree(work, ignore_errors=True)
    return report


class _Training:
    """The networks and the data of one training."""

    def __init__(
        self, knowledge: Knowledge, settings: ImageTrainingSettings, work: Path, progress: StageProgress | None,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.settings, self.work, self.progress, self.say = settings, work, progress, say
        self.images = knowledge.images
        self.device = choose_device(settings.device)
        self.dtype = autocast_dtype(settings.precision, self.device)
        captions = [" ".join(caption.split()) for given in knowledge.captions for caption in given]
        self.tokenizer = train_clip_tokenizer(captions, settings.vocabulary)
        self.ids = torch.from_numpy(encode(self.tokenizer, captions))
        self.silent = torch.from_numpy(encode(self.tokenizer, [""]))[0]
        self.counts = torch.tensor([len(given) for given in knowledge.captions])
        self.first = torch.tensor([0, *accumulate(len(given) for given in knowledge.captions)][:-1])
        seed = settings.seed

        def made(name: str, build: Callable[[], Any]) -> Any:
            return seeded(build, self.device, seed=derive_seed(seed, name))

        self.vae = made("autoencoder", lambda: autoencoder(settings.size, settings.width // 2))
        self.unet = made("unet", lambda: unet(settings.width))
        self.text = made("text", lambda: clip_text_encoder(self.tokenizer, 2 * settings.width))
        chosen = np.random.default_rng(derive_seed(seed, "sheet")).permutation(len(self.images))[:ROWS]
        self.shown = self.images[chosen]
        self.sheet_captions = [captions[int(self.first[i])] for i in chosen]

    def run(self) -> ImageTrainingReport:
        pixels = resident(self.images, self.device, limit=self.settings.size)
        fitted = {"autoencoder": self._fit("autoencoder", lambda step: self._autoencoder_loss(pixels, step))}
        latents, psnr = self._encode(pixels)
        self.say(f"autoencoder: {psnr:.1f} dB after {self.settings.autoencoder_steps:,} steps")
        fitted["drawing"] = self._fit("drawing", lambda step: self._drawing_loss(latents, step))
        return ImageTrainingReport(
            parameters=sum(p.numel() for network in self._networks() for p in network.parameters()),
            pictures=len(self.images),
            captions=len(self.ids),
            fitted=fitted,
            psnr=psnr,
            device=self.device,
            dtype=self.dtype or torch.float32,
        )

    def expected_seconds(self) -> float:
        """About how long all steps take on this machine as busy as it is, from two steps of each part."""
        pixels = resident(self.images, self.device, limit=self.settings.size)
        latents = torch.zeros(2, len(self.images), LATENT_CHANNELS, PLACES, PLACES, device=self.device).half()
        parts: list[tuple[Callable[[int], Tensor], int]] = [
            (lambda step: self._autoencoder_loss(pixels, step), self.settings.autoencoder_steps),
            (lambda step: self._drawing_loss(latents, step), self.settings.steps),
        ]
        seconds = 0.0
        for loss, steps in parts:
            loss(0).backward()  # the first one sets things up
            started = time.perf_counter()
            loss(1).backward()
            wait_for(self.device)
            seconds += steps * (time.perf_counter() - started)
        for network in self._networks():
            network.zero_grad(set_to_none=True)
        return seconds

    def _networks(self) -> tuple[Any, ...]:
        return self.vae, self.unet, self.text

    def pipeline(self) -> Any:
        return pipeline(self.vae, self.unet, self.text, self.tokenizer)

    def sheet(self, path: Path) -> None:
        """Samples of the networks as they are."""
        pipe, made = self.pipeline(), []
        for row, caption in enumerate(self.sheet_captions):
            seeds = [derive_seed(self.settings.seed, "sheet", i) for i in range(COLUMNS)]
            generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
            drawn = pipe(
                [caption] * COLUMNS, generator=generators, num_inference_steps=self.settings.drawing_steps,
                guidance_scale=self.settings.guidance, output_type="np",
            ).images  # fmt: skip
            made.append((np.nan_to_num(drawn) * 255).round().astype(np.uint8))
            if self.progress is not None:
                self.progress("samples", row + 1, len(self.sheet_captions))
        write_sheet(path, self.shown, made)

    def _fit(self, stage: str, loss: Callable[[int], Tensor]) -> Fitted:
        settings, draws = self.settings, stage == "drawing"
        steps = settings.steps if draws else settings.autoencoder_steps
        fit = Fit(
            [self.text, self.unet] if draws else [self.vae], loss, steps=steps, batch_size=self._batch(stage),
            learning_rate=settings.learning_rate, ema=settings.ema if draws else min(settings.ema, 0.995),
            checkpoint=self.work / f"{stage}.safetensors",
        )  # fmt: skip
        if fit.step:
            self.say(f"{stage}: going on after step {fit.step:,} of {steps:,}")

        def told(done: int, running: float) -> None:
            if self.progress is not None:
                self.progress(stage, done, steps)
            if draws and done % settings.sample_every == 0 and done < steps:
                path = self.work / f"samples-{done:06d}.png"
                with fit.averaged():
                    self.sheet(path)
                self.say(f"step {done:,} of {steps:,}: loss {running:.4f}, samples in {path}")

        return fit.run(save_every=settings.save_every, told=told)

    def _batch(self, stage: str) -> int:
        """Pictures a step."""
        whole = self.settings.batch_size
        return whole if stage == "drawing" else max(min(4, whole), whole // 8)

    def _autoencoder_loss(self, pixels: UInt8[Tensor, "n 3 s s"], step: int) -> Tensor:
        """Squared error of what comes back; latents are led to mean 0 and variance 1, a channel each."""
        settings = self.settings
        seed = derive_seed(settings.seed, "autoencoder")
        generator = generator_of(seed, step)
        index = torch.from_numpy(batch_of(len(pixels), self._batch("autoencoder"), seed, step))
        side = settings.size // CROPS
        top, left = torch.randint(settings.size - side + 1, (2,), generator=generator).tolist()
        crop = batch_at(pixels, index, self.device)[:, :, top : top + side, left : left + side]
        flip = sent(torch.rand(len(index), generator=generator) < settings.flips, self.device)
        x = _signed(torch.where(flip[:, None, None, None], crop.flip(3), crop))
        with self._autocast():
            z = self.vae.encode(x).latents
            noise = sent(torch.randn(z.shape, generator=generator), self.device)
            back = self.vae.decode(z + LATENT_NOISE * noise).sample
        variance, mean = torch.var_mean(z.float(), dim=(0, 2, 3))
        return F.mse_loss(back.float(), x) + 0.01 * (mean.square() + (variance - 1).square()).mean()

    @torch.no_grad()
    def _encode(self, pixels: UInt8[Tensor, "n 3 s s"]) -> tuple[Float16[Tensor, "2 n 8 p p"], float]:
        """Latents of deviation 1, plain and mirrored, and the autoencoder's PSNR; sets its scaling factor."""
        parts: list[list[Tensor]] = [[], []]
        errors = []
        for chunk in pixels.split(256):
            plain = chunk.to(self.device)
            for side, x in enumerate((plain, plain.flip(3))):
                z = self.vae.encode(_signed(x)).latents
                parts[side].append(z)
                if side == 0:
                    error = (self.vae.decode(z).sample.clamp(-1, 1) - _signed(x)) / 2  # of pixels in [0, 1]
                    errors.append(error.square().flatten(1).mean(1))
        latents = torch.stack([torch.cat(part) for part in parts])
        assert latents.shape[-1] == PLACES
        factor = 1 / float(latents.std())
        self.vae.register_to_config(scaling_factor=factor)
        return (latents * factor).half(), float(-10 * torch.cat(errors).mean().clamp(min=1e-10).log10())

    def _drawing_loss(self, latents: Float16[Tensor, "2 n 8 p p"], step: int) -> Float[Tensor, ""]:
        """Squared error of the velocity, for a step's pictures, captions, times and noise."""
        settings = self.settings
        seed, b = derive_seed(settings.seed, "drawing"), settings.batch_size
        generator = generator_of(seed, step)
        index = torch.from_numpy(batch_of(latents.shape[1], b, seed, step))
        flip, which, dropped = torch.rand(3, b, generator=generator)
        said = self.ids[self.first[index] + (which * self.counts[index]).long()]
        said = sent(torch.where((dropped < settings.caption_dropout)[:, None], self.silent, said), self.device)
        clean = latents[sent((flip < settings.flips).long(), self.device), sent(index, self.device)].float()
        often, anywhere, chance = torch.randn(b, generator=generator), *torch.rand(2, b, generator=generator)
        t = sent(torch.where(chance < UNIFORM, anywhere, torch.sigmoid(often)), self.device)
        noise = sent(torch.randn(clean.shape, generator=generator), self.device)
        mixed = torch.lerp(clean, noise, t[:, None, None, None])
        with self._autocast():
            heard = self.text(said)[0]
            velocity = self.unet(mixed, t * TIMES, heard).sample
        return F.mse_loss(velocity.float(), noise - clean)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)


def _signed(pixels: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """[0, 255] -> [-1, 1]."""
    return pixels.float() / 127.5 - 1
