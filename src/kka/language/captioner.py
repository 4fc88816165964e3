"""Captions by an image-to-text model of the Hugging Face hub or a folder: ViT-GPT2, BLIP, GIT and their like.

transformers is imported when a model is loaded, not before. Weights are safetensors; no remote code is run.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from kka.errors import UserError

BATCH = 16
MAX_TOKENS = 48


class Captioner:
    """One caption for each image: the model's most likely words (greedy), so the same every time."""

    def __init__(self, spec: str) -> None:
        """Load the model `hf:<id or folder>`. Raises UserError when it cannot be loaded or does not caption."""
        from kka.common.device import choose_device
        from kka.language.loading import no_progress_bars

        self.spec = spec
        self.device = choose_device("auto")
        source = spec.removeprefix("hf:")
        try:
            with no_progress_bars():
                self._load(str(Path(source).expanduser()) if Path(source).expanduser().is_dir() else source)
        except UserError:
            raise
        except Exception as error:  # transformers raises many kinds for what is missing or of another form
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"caption model {source!r} cannot be loaded. Expected an image-to-text model such as "
                "Salesforce/blip-image-captioning-base, from the hub or a folder with config.json, "
                f"preprocessor_config.json, tokenizer files and *.safetensors. transformers says: {reason}"
            ) from error

    def _load(self, source: str) -> None:
        from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        self.images: Any = AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        if getattr(self.tokenizer, "chat_template", None) or hasattr(config, "image_token_id"):
            raise UserError(
                f"caption model {source!r} answers questions about images; expected one that captions them without "
                "a question, such as Salesforce/blip-image-captioning-base"
            )
        model: Any = AutoModelForImageTextToText.from_pretrained(source, use_safetensors=True, trust_remote_code=False)
        self.model = model.to(self.device).eval().requires_grad_(False)

    def __call__(self, contents: Sequence[bytes]) -> list[str]:
        """A caption of each encoded picture; "" where the model says nothing."""
        import torch

        captions: list[str] = []
        for start in range(0, len(contents), BATCH):
            pictures = [Image.open(io.BytesIO(c)).convert("RGB") for c in contents[start : start + BATCH]]
            pixels = self.images(images=pictures, return_tensors="pt")["pixel_values"].to(self.device)
            with torch.inference_mode():
                tokens = self.model.generate(
                    pixel_values=pixels, max_new_tokens=MAX_TOKENS, do_sample=False, num_beams=1
                )
            texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
            captions += [" ".join(text.split()) for text in texts]
        return captions
