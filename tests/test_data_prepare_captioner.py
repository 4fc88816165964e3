"""Captions by an image-to-text model: a real ViT-to-GPT-2 checkpoint of two layers, made on disk."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    PreTrainedTokenizerFast,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
)  # fmt: skip

import kka.data.prepare as preparing
from kka.data.prepare import prepare
from kka.data.prepare.options import PrepareOptions
from kka.errors import UserError
from kka.language.captioner import Captioner
from prepare_fakes import SETS, rows_of, small, write_sentences, write_ucm

WORDS = ["<bos>", "<eos>", "an", "aerial", "view", "of", "roofs", "fields"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the hub has it: config, safetensors, image processor, tokenizer."""
    folder = tmp_path_factory.mktemp("captioner")
    encoder = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16
    )
    decoder = GPT2Config(
        vocab_size=len(WORDS), n_embd=16, n_layer=1, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=1,
        is_decoder=True, add_cross_attention=True,
    )  # fmt: skip
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 0, 1, 1
    with torch.random.fork_rng():
        torch.manual_seed(2)
        built = VisionEncoderDecoderModel(config)
    built.generation_config.decoder_start_token_id = 0
    built.generation_config.pad_token_id = built.generation_config.eos_token_id = 1
    built.generation_config.suppress_tokens = [0, 1]  # an untrained model would often say nothing
    built.save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<eos>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<bos>", eos_token="<eos>", pad_token="<eos>", unk_token="<eos>"
    )
    tokenizer.save_pretrained(folder)
    return folder


def test_captions_where_there_are_none(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """People's captions must stay; the model writes for the others, the same every time, and the card says so."""
    monkeypatch.setattr(preparing, "preparers", lambda: {"ucm_caption": small(SETS["ucm_caption"])})
    raw = write_ucm(tmp_path / "raw", 3)
    spec = f"hf:{model}"
    card = prepare("ucm_caption", tmp_path / "a", PrepareOptions(source=str(raw), caption_model=spec, size=32))
    assert card["captions"] == {"model": 63} and card["caption_model"] == spec
    captions = [row["captions"] for row in rows_of(tmp_path / "a", "train")]
    assert all(len(c) == 1 and set(c[0].split()) <= set(WORDS[2:]) for c in captions)
    again = prepare("ucm_caption", tmp_path / "b", PrepareOptions(source=str(raw), caption_model=spec, size=32))
    assert again["sha256"] == card["sha256"]
    sentences = write_sentences(tmp_path / "dataset.json", 3)
    options = PrepareOptions(source=str(raw), captions=sentences, caption_model=spec, size=32)
    card = prepare("ucm_caption", tmp_path / "c", options)
    assert card["captions"] == {"own": 63}


def test_a_model_that_says_nothing(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty caption would be refused later; the class name stands in."""
    monkeypatch.setattr(preparing, "preparers", lambda: {"ucm_caption": small(SETS["ucm_caption"])})
    monkeypatch.setattr(Captioner, "__call__", lambda self, contents: [""] * len(contents))
    options = PrepareOptions(source=str(write_ucm(tmp_path / "raw", 3)), caption_model=f"hf:{model}", size=32)
    assert prepare("ucm_caption", tmp_path / "a", options)["captions"] == {"class_name": 63}


def test_what_is_no_caption_model(tmp_path: Path) -> None:
    """A mistyped folder or a language model is told before any picture is read."""
    with pytest.raises(UserError, match="expected hf:<model id or folder>; got 'vit'"):
        PrepareOptions(caption_model="vit")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UserError, match=r"cannot be loaded. Expected an image-to-text model"):
        Captioner(f"hf:{tmp_path}")
