"""Captions by an image-to-text model: a real ViT-to-GPT-2 checkpoint of two layers, made on disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
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
from kka.config import RunConfig
from kka.data import open_task
from kka.data.captioned import Model, PhotoCaptions
from kka.data.prepare import prepare
from kka.data.prepare.options import PrepareOptions
from kka.errors import UserError
from kka.language.captioner import Captioner
from kka.run.models import caption_writer
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


def test_photos_of_a_run_without_captions(model: Path, tmp_path: Path) -> None:
    """People's captions stay, the others are written once: a run that is resumed must find the same, and no model."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(9):
        noise = np.random.default_rng(number).integers(0, 255, (20, 30, 3), np.uint8)
        Image.fromarray(noise).save(photos / f"{number}.png")
    (photos / "metadata.jsonl").write_text('{"file_name": "3.png", "text": "my own"}')
    told: list[tuple[int, int]] = []
    writer = PhotoCaptions(f"hf:{model}", lambda done, total: told.append((done, total)))
    task = open_task(str(photos), captions=writer, describe="a plate")
    assert task.captions[3] == "my own" and told[-1] == (8, 8)
    words = {word for i, text in enumerate(task.captions) if i != 3 for word in text.split()}
    assert words and words <= {*WORDS} and "8 of the 9 training images" in " ".join(map(str, task.details["notes"]))  # type: ignore[call-overload]

    def unwanted(spec: str) -> Model:
        raise AssertionError("the model is loaded though every caption is stored")

    again = open_task(str(photos), captions=PhotoCaptions(f"hf:{model}", load=unwanted))
    assert again.captions == task.captions
    silent = PhotoCaptions("hf:silent", load=lambda spec: lambda contents: ["" for _ in contents])
    assert {*open_task(str(photos), captions=silent, describe="a plate").captions} == {"a plate", "my own"}
    writer.store.write_text("{ torn")
    assert open_task(str(photos), captions=writer).captions == task.captions


@pytest.mark.parametrize(
    ("data", "spec", "told"),
    [("garden", "hf:x", "expected a folder of photos"), ("x", "blip", "expected hf:"), ("x", "hf:", "expected hf:")],
)
def test_what_takes_no_caption_model(data: str, spec: str, told: str) -> None:
    """Refused before anything is loaded."""
    with pytest.raises(UserError, match=told):
        caption_writer(RunConfig(data=data, caption_model=spec))
