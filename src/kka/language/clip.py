"""The text side of a small image model: CLIP's tokenizer trained on the captions, and a small CLIP text encoder.

Both are transformers' own classes, so that a diffusion pipeline loads them as it loads those of Stable Diffusion.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
SUFFIX = "</w>"
"""Ends the last token of a word."""
LONGEST = 77
"""Tokens of a caption at most, start and end included, as in CLIP."""


def train_clip_tokenizer(captions: Sequence[str], vocabulary: int) -> CLIPTokenizer:
    """Byte-pair encoding over the captions, in lower case. Any text can be encoded.

    Captions are padded and cut to the multiple of 8 tokens that holds 99 of 100 captions, 77 at most.
    """
    like = CLIPTokenizer().backend_tokenizer  # its normaliser and its way to find words
    learner = Tokenizer(models.BPE(end_of_word_suffix=SUFFIX))
    learner.normalizer, learner.pre_tokenizer = like.normalizer, like.pre_tokenizer
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary + 2 * len(letters), initial_alphabet=letters, end_of_word_suffix=SUFFIX,
        show_progress=False,
    )  # fmt: skip
    learner.train_from_iterator(sorted(set(captions)), trainer)
    learnt = json.loads(learner.to_str())["model"]
    merges: Any = [tuple(pair) for pair in learnt["merges"]]
    names = [*letters, *(letter + SUFFIX for letter in letters), *(a + b for a, b in merges)]
    known = {name: place for place, name in enumerate(dict.fromkeys([*names, START, END]))}
    tokenizer = CLIPTokenizer(vocab=known, merges=merges, model_max_length=LONGEST)
    lengths = sorted(len(ids) for ids in tokenizer(list(captions), truncation=True)["input_ids"])
    tokenizer.model_max_length = min(LONGEST, 8 * math.ceil(lengths[int(0.99 * (len(lengths) - 1))] / 8))
    return tokenizer


def encode(tokenizer: Any, captions: Sequence[str]) -> Int[np.ndarray, "n l"]:
    """The captions' tokens, padded and cut as the pipeline does it."""
    found = tokenizer(list(captions), padding="max_length", truncation=True, max_length=tokenizer.model_max_length)
    return np.asarray(found["input_ids"], np.int64)


def clip_text_encoder(tokenizer: Any, width: int, layers: int = 2) -> CLIPTextModel:
    """An untrained text encoder: (b, l) tokens -> (b, l, width)."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            projection_dim=width,
            num_hidden_layers=layers,
            num_attention_heads=max(1, width // 32),
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
