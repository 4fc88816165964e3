"""What the tests of the image models draw with: a tiny diffusion pipeline, and a server of OpenAI's protocol."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kka.seeding import derive_seed

SIZE = 64  # of the tiny model: 32 latent cells of 2 pixels
WIDTH = 16  # of its text encoder


def clip_tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer over single bytes, without any merge."""
    from transformers import CLIPTokenizer

    letters = [*"abcdefghijklmnopqrstuvwxyz ,.0123456789"]
    names = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(str(folder), model_max_length=77)


def clip_text(tokenizer: Any) -> Any:
    """CLIP's text encoder of one layer, with random weights."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=0,
        eos_token_id=1,
    )
    return CLIPTextModel(config)


def tiny_pipeline(folder: Path) -> Any:
    """A Stable Diffusion pipeline with random weights; its tokenizer's files go into `folder`."""
    import diffusers
    import torch

    torch.manual_seed(0)
    tokenizer = clip_tokenizer(folder / "tokens")
    text = clip_text(tokenizer)
    unet = diffusers.UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=SIZE,
    )
    return diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=diffusers.EulerAncestralDiscreteScheduler(),  # draws noise in each step, from each generator
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def picture(caption: str, size: str, seed: int = 0) -> np.ndarray:
    """What the server draws."""
    width, height = map(int, size.split("x"))
    return np.random.default_rng(derive_seed(seed, caption)).integers(0, 256, (height, width, 3), np.uint8)


class ImageServer(ThreadingHTTPServer):
    """Draws by `picture`. `faults`: answers (state, headers, text) given first, in order; None drops the line."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.faults: list[tuple[int, dict[str, str], str] | None] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    @classmethod
    @contextmanager
    def running(cls) -> Iterator["ImageServer"]:
        """The server, answering in a thread until the block ends."""
        with cls() as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield server
            finally:
                server.shutdown()
                thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: ImageServer

    def do_POST(self) -> None:  # the name that http.server calls
        assert self.path == "/v1/images/generations"
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        self.server.keys.append(self.headers["Authorization"])
        if self.server.faults:
            fault = self.server.faults.pop(0)
            if fault is None:
                self.connection.close()
                return
            self._answer(*fault)
        elif "forbidden" in body["prompt"]:
            self._answer(400, {}, json.dumps({"error": {"code": "content_policy_violation"}}))
        else:
            buffer = io.BytesIO()
            drawn = picture(body["prompt"], body["size"], body.get("seed", 0))
            Image.fromarray(drawn).save(buffer, format="PNG")
            coded = base64.b64encode(buffer.getvalue()).decode()
            self._answer(200, {}, json.dumps({"data": [{"b64_json": coded}]}))

    def _answer(self, state: int, headers: dict[str, str], text: str) -> None:
        content = text.encode()
        self.send_response(state)
        usual = {"Content-Length": str(len(content)), "Content-Type": "application/json", "retry-after-ms": "1"}
        for name, value in {**usual, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests' output stays clean."""
