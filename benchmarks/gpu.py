"""What a GPU is worth to kka, part by part, beside a CPU: the same script on either, with sizes that fit it.

    python benchmarks/gpu.py                  # on a machine with a GPU: ten minutes at most, by its limits
    python benchmarks/gpu.py --device cpu     # small sizes

**No GPU has run this so far: benchmarks/results/gpu.json has the section of a CPU alone.** A GPU's section stands
beside it from the first run on such a machine. The sections have different sizes, which stand in each part: compare
rates.

All data are made here: random pixels and random weights, which cost what real ones do, and say nothing of AUROC. Each
part is a process of its own, with a time limit; one that cannot run here (a library is missing, too little memory) is
stored with the reason. The file is written after each part, whole or not at all; a killed run goes on where it was, and
does again what had failed. `--again` measures all anew.

Floors: the operations that cannot be left out over the device's rate of one matrix product in the same precision, and
the bytes that must move over its rate of copying, both measured in the same process. Operations of convolutional
networks are those that PyTorch counts of one image.

- deep_sad: training (40 % of the images are anomalies) by kka and by a plain DataLoader (`benchmarks/training.py`), in
  batches of 32, and by kka in large ones.
- ensemble: a step of many LeNets, each on a batch of its own, as one (`torch.func.stack_module_state` and `vmap`) and
  one after the other.
- simplenet, recontrast, patchcore, dfm: the published settings and WideResNet-50 (the CPU: smaller batches). fit_s of
  the first and, where features are computed once, of a second fit, which finds them.
- captions, dpo: a Llama by `kka.language.hf`; answers end at `tokens`. Its steps of DPO are those of `tune`, without
  what is measured before and after them.
- pictures: Stable Diffusion's pipeline by `kka.imaging.diffusers`, without guidance.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

OUT = Path(__file__).parent / "results" / "gpu.json"
LIMIT = {"gpu": 65, "cpu": 180}
"""Seconds of a part: nine of them end within ten minutes on a GPU, though none has shown how many it needs."""
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "deep_sad": {
        "gpu": {"images": 20_000, "epochs": 6, "large_batch": 1024},
        "cpu": {"images": 300, "epochs": 6, "large_batch": 128},
    },
    "ensemble": {"gpu": {"networks": 32, "batch": 64, "steps": 50}, "cpu": {"networks": 8, "batch": 32, "steps": 5}},
    "simplenet": {"gpu": {"images": 256, "epochs": 4, "batch_size": 8},
                  "cpu": {"images": 2, "epochs": 2, "batch_size": 2}},
    "recontrast": {"gpu": {"images": 256, "iterations": 40, "batch_size": 16},
                   "cpu": {"images": 2, "iterations": 2, "batch_size": 2}},
    "patchcore": {"gpu": {"images": 256}, "cpu": {"images": 4}},
    "dfm": {"gpu": {"images": 512}, "cpu": {"images": 8}},
    "captions": {
        "gpu": {"width": 2048, "layers": 16, "vocabulary": 2000, "prompts": 8, "captions": 1024, "tokens": 32},
        "cpu": {"width": 512, "layers": 8, "vocabulary": 2000, "prompts": 8, "captions": 32, "tokens": 16},
    },
    "dpo": {
        "gpu": {"width": 2048, "layers": 16, "vocabulary": 2000, "pairs": 96, "steps": 6, "tokens": 32},
        "cpu": {"width": 256, "layers": 4, "vocabulary": 2000, "pairs": 32, "steps": 3, "tokens": 16},
    },
    "pictures": {
        "gpu": {"channels": [320, 640, 1280, 1280], "vae": [128, 256, 512, 512], "side": 512, "steps": 20, "batch": 8,
                "pictures": 16},
        "cpu": {"channels": [32, 64, 128, 128], "vae": [32, 32, 64, 64], "side": 64, "steps": 4, "batch": 4,
                "pictures": 4},
    },
}  # fmt: skip


def pictures_of(n: int, side: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def timed(device: Any, work: Callable[[], Any]) -> float:
    """Seconds, until the device is done."""
    from kka.common.device import wait_for

    wait_for(device)
    started = time.perf_counter()
    work()
    wait_for(device)
    return time.perf_counter() - started


def rates(device: Any) -> dict[str, float]:
    """Operations a second of matrix products, and bytes a second, read and written, of a copy on the device."""
    import torch

    from kka.common.machine import matrix_rate

    a = torch.ones(2**28 if device.type != "cpu" else 2**24)
    a = a.to(device)
    b = torch.empty_like(a)
    b.copy_(a)
    seconds = min(timed(device, lambda: b.copy_(a)) for _ in range(8))
    found = {"copy_gb_s": 2 * a.nbytes / seconds / 1e9, "fp32_gflops": matrix_rate(device, torch.float32) / 1e9}
    if device.type != "cpu":  # on most of which bf16 is emulated, and nothing here asks for it
        found["bf16_gflops"] = matrix_rate(device, torch.bfloat16) / 1e9
    return found


def deep_sad(device: Any, size: dict[str, Any]) -> dict[str, Any]:
    from training import EPOCHS, FLOPS, plain_fit

    from kka.algorithm.deep_sad import pretrain, train_deep_sad
    from kka.common.device import autocast_dtype
    from kka.settings.deep_sad import DeepSADSettings

    assert size["epochs"] == EPOCHS
    odd = 2 * size["images"] // 5
    normals, anomalies = pictures_of(size["images"] - odd, 64, 0), pictures_of(odd, 64, 1)
    speed = rates(device)
    bf16 = autocast_dtype("auto", device) is not None
    # of each convolution's output and its gradient: written and read once
    moved = 4 * (32 * 32**2 + 64 * 16**2 + 128 * 8**2) * (2 if bf16 else 4)
    found: dict[str, Any] = {
        "rates": speed, "precision": "bf16" if bf16 else "fp32",
        "floor_images_s": {
            "operations": speed["bf16_gflops" if bf16 else "fp32_gflops"] * 1e9 / FLOPS,
            "bytes": speed["copy_gb_s"] * 1e9 / moved,
        },
    }  # fmt: skip
    for name, batch in (("images_s", 32), ("images_s_large_batch", size["large_batch"])):
        settings = DeepSADSettings(epochs=EPOCHS, batch_size=batch, device=str(device))
        start = pretrain(normals[:64], settings=settings, seed=0)

        def fit(settings: Any = settings, start: Any = start) -> None:
            train_deep_sad(normals, anomalies, settings=settings, seed=0, start=start)

        train_deep_sad(normals[:200], None, settings=settings, seed=0, start=start)  # the first one sets things up
        found[name] = EPOCHS * size["images"] / timed(device, fit)
    workers = min(8, os.cpu_count() or 1)
    few = max(1, len(normals) // (1 if device.type == "cpu" else 4))  # the plain way is slow
    beside = len(anomalies) * few // len(normals)
    seconds, _ = plain_fit(normals[:few], anomalies[:beside], normals[:8], workers, device)
    images = few + beside
    found["plain_images_s"], found["plain_workers"] = EPOCHS * images / seconds, workers
    found["times_plain"] = found["images_s"] / found["plain_images_s"]
    return found


def ensemble(device: Any, size: dict[str, Any]) -> dict[str, Any]:
    import copy

    import torch
    from torch.func import functional_call, stack_module_state, vmap

    from kka.algorithm.deep_sad import LeNet, deep_sad_loss, squared_distance
    from kka.common.device import seeded

    k, b = size["networks"], size["batch"]
    networks = [seeded(LeNet, device, seed=i).train() for i in range(k)]
    x = torch.rand(k, b, 3, 32, 32, device=device)
    odd = torch.arange(b, device=device) >= b // 2
    centre = torch.full((128,), 0.1, device=device)

    def loss_of(z: Any) -> Any:
        return deep_sad_loss(squared_distance(z, centre), odd)

    optimisers = [torch.optim.Adam(network.parameters(), lr=1e-4, fused=True) for network in networks]

    def apart() -> None:
        for network, optimiser, own in zip(networks, optimisers, x, strict=True):
            optimiser.zero_grad(set_to_none=True)
            loss_of(network(own)).backward()
            optimiser.step()

    base = copy.deepcopy(networks[0]).to("meta")
    weights, buffers = stack_module_state(networks)
    stacked = torch.optim.Adam(list(weights.values()), lr=1e-4, fused=True)

    def one(own_weights: Any, own_buffers: Any, own: Any) -> Any:
        return loss_of(functional_call(base, (own_weights, own_buffers), (own,)))

    def together() -> None:
        stacked.zero_grad(set_to_none=True)
        vmap(one)(weights, buffers, x).sum().backward()
        stacked.step()

    found = {}
    for name, step in (("apart", apart), ("together", together)):
        step()
        seconds = timed(device, lambda step=step: [step() for _ in range(size["steps"])])  # type: ignore[misc]
        found[f"network_steps_s_{name}"] = k * size["steps"] / seconds
    found["times"] = found["network_steps_s_together"] / found["network_steps_s_apart"]
    return found


def detector(name: str, overrides: list[str]) -> Callable[[Any, dict[str, Any]], dict[str, Any]]:
    """A part that fits and scores with a detector; "{…}" in the overrides stands for one of its sizes."""

    def run(device: Any, size: dict[str, Any]) -> dict[str, Any]:
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from kka.detectors import build_detector
        from kka.settings.backbone import BackboneSettings

        backbone = BackboneSettings(name="wide_resnet50_2", weights="random")
        given = [text.format(**size) for text in overrides] + [f"device={device}"]
        made = build_detector(name, preset="published", overrides=given, backbone=backbone)
        images = pictures_of(size["images"], made.settings.size, 0)  # type: ignore[attr-defined]
        found: dict[str, Any] = {"settings": given, "backbone": "wide_resnet50_2"}
        found["fit_s"] = timed(device, lambda: made.fit(images))
        if name != "recontrast":
            found["fit_again_s"] = timed(device, lambda: made.fit(images))
        if "epochs" in size:
            found["trained_images_s"] = size["epochs"] * size["images"] / found["fit_again_s"]
        if "iterations" in size:
            found["trained_images_s"] = size["iterations"] * min(size["batch_size"], len(images)) / found["fit_s"]
        made.score(images[:2])
        found["scored_images_s"] = len(images) / timed(device, lambda: made.score(images))
        graph: Any = made.graph()  # type: ignore[attr-defined]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            graph(torch.from_numpy(images[:1]).to(device))
        found["gflop_an_image"] = counter.get_total_flops() / 1e9
        found["rates"] = rates(device)
        found["floor_scored_images_s"] = found["rates"]["fp32_gflops"] / found["gflop_an_image"]
        return found

    return run


def words() -> list[str]:
    return [
        f"this flower has {number} {shape} {colour} petals with a {size} centre"
        for number in ("three", "five", "six", "eight", "ten", "many")
        for colour in ("white", "red", "pale yellow", "deep blue", "pink", "violet")
        for shape in ("rounded", "narrow", "ruffled", "long") for size in ("small", "large dark")
    ]  # fmt: skip


def llama(folder: Path, size: dict[str, Any]) -> Path:
    """A Llama with random weights, and its tokenizer. It names an end that it never writes by more than chance."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from kka.algorithm.prompts import build_prompt
    from kka.language.examples import train_tokenizer

    tokenizer = train_tokenizer(words(), lambda caption: build_prompt(caption, domain="flowers"), size["vocabulary"])
    width = size["width"]
    config = LlamaConfig(
        vocab_size=size["vocabulary"], hidden_size=width, intermediate_size=4 * width,
        num_hidden_layers=size["layers"], num_attention_heads=width // 64, num_key_value_heads=width // 128,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def language(device: Any, size: dict[str, Any], folder: Path, **more: Any) -> tuple[Any, list[str]]:
    from kka.algorithm.prompts import build_prompt
    from kka.language.hf import HFLanguageModel
    from kka.settings.language import LanguageSettings

    settings = LanguageSettings(max_new_tokens=size["tokens"], **more)
    model = HFLanguageModel(llama(folder, size), settings=settings, device=str(device))
    return model, [build_prompt(text, domain="flowers") for text in words()[: size.get("prompts", 8)]]


def captions(device: Any, size: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        model, prompts = language(device, size, Path(folder))
    each = size["captions"] // len(prompts)
    model.sample(prompts, max(1, each // 8), seed=0)
    before = model.tokens_written
    seconds = timed(device, lambda: model.sample(prompts, each, seed=1))
    tokens, count = model.tokens_written - before, each * len(prompts)
    n, speed = model.model.num_parameters(), rates(device)
    bits = str(model.model.dtype).removeprefix("torch.")
    rate = speed["fp32_gflops" if bits == "float32" else "bf16_gflops"] * 1e9
    passes = -(-count // model.settings.batch_size) * size["tokens"]
    weights = n * model.model.dtype.itemsize
    return {
        "parameters": n, "dtype": bits, "batch_size": model.settings.batch_size, "captions_s": count / seconds,
        "tokens_s": tokens / seconds, "rates": speed,
        "floor_captions_s": {
            "operations": count / (2 * n * tokens / rate),
            "bytes": count / (passes * weights / (speed["copy_gb_s"] * 1e9)),
        },
    }  # fmt: skip


def dpo(device: Any, size: dict[str, Any]) -> dict[str, Any]:
    from kka.protocols import PreferencePair

    with tempfile.TemporaryDirectory() as folder:
        model, prompts = language(device, size, Path(folder), dpo_steps=size["steps"])
    texts = words()
    pairs = [
        PreferencePair(prompt=prompts[i % len(prompts)], hard=texts[-1 - i], easy=texts[i])
        for i in range(size["pairs"])
    ]
    ended: list[float] = []
    model.progress = lambda stage, done, total: ended.append(time.perf_counter()) if stage == "dpo" else None
    round_s = timed(device, lambda: model.tune(pairs, [], seed=0))
    steps = np.diff(ended)
    return {
        "parameters": model.model.num_parameters(), "pairs_a_step": model.settings.dpo_batch,
        "steps_s": float(1 / np.median(steps)), "round_s": round_s, "rates": rates(device),
        "prompts_read_once": model.shared,
    }  # fmt: skip


def pictures(device: Any, size: dict[str, Any]) -> dict[str, Any]:
    import torch
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel

    from kka.imaging.diffusers import DiffusersModel
    from kka.language.clip import clip_text_encoder, train_clip_tokenizer
    from kka.settings.drawing import DrawingSettings

    texts, width = words(), 768
    tokenizer = train_clip_tokenizer(texts, 500)
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=size["side"] // 8, block_out_channels=tuple(size["channels"]), cross_attention_dim=width
    )
    blocks = len(size["vae"])
    vae = AutoencoderKL(
        block_out_channels=tuple(size["vae"]), latent_channels=4, sample_size=size["side"],
        down_block_types=("DownEncoderBlock2D",) * blocks, up_block_types=("UpDecoderBlock2D",) * blocks,
        layers_per_block=2,
    )  # fmt: skip
    pipe = StableDiffusionPipeline(
        vae=vae, unet=unet, text_encoder=clip_text_encoder(tokenizer, width, 12), tokenizer=tokenizer,
        scheduler=EulerDiscreteScheduler(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        pipe.to(torch.bfloat16).save_pretrained(folder)
        del pipe
        settings = DrawingSettings(size=size["side"], steps=size["steps"], guidance=1.0, batch_size=size["batch"])
        model = DiffusersModel(folder, settings=settings, device=str(device))
    asked, seeds = texts[: size["pictures"]], list(range(size["pictures"]))
    model.draw(asked[: size["batch"]], seeds=seeds[: size["batch"]])
    seconds = timed(device, lambda: model.draw(asked, seeds=seeds))
    return {
        "unet_parameters": unet.num_parameters(), "dtype": str(model._loaded.dtype).removeprefix("torch."),
        "pictures_s": len(asked) / seconds, "rates": rates(device),
    }  # fmt: skip


PARTS: dict[str, Callable[[Any, dict[str, Any]], dict[str, Any]]] = {
    "deep_sad": deep_sad,
    "ensemble": ensemble,
    "simplenet": detector("simplenet", ["epochs={epochs}", "batch_size={batch_size}"]),
    "recontrast": detector("recontrast", ["iterations={iterations}", "batch_size={batch_size}"]),
    "patchcore": detector("patchcore", []),
    "dfm": detector("dfm", []),
    "captions": captions,
    "dpo": dpo,
    "pictures": pictures,
}


def place(device: Any) -> tuple[str, dict[str, Any]]:
    """The name of a machine's section, and what its figures hold for."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    processor = processor or platform.processor() or platform.machine()
    facts = {"processor": processor, "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    facts |= {"torch": torch.__version__, "python": platform.python_version()}
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return f"cuda: {name}", {"gpu": name, "memory_gb": round(torch.cuda.mem_get_info(device)[1] / 1e9), **facts}
    return f"{device.type}: {processor}, {os.cpu_count()} cores", facts


def rounded(found: Any) -> Any:
    """Four digits of each figure."""
    if isinstance(found, dict):
        return {name: rounded(value) for name, value in found.items()}
    return float(f"{found:.4g}") if isinstance(found, float) else found


def run_part(name: str, device: str, size: dict[str, Any], limit: int) -> dict[str, Any]:
    """A part in a process of its own: its figures, or the reason why there are none."""
    command = [sys.executable, __file__, "--device", device, "--part", name, "--size", json.dumps(size)]
    with tempfile.TemporaryDirectory() as cache:
        try:
            own = os.environ | {"KKA_CACHE": cache}
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False, env=own)
        except subprocess.TimeoutExpired:
            return {"reason": f"took more than {limit} s"}
    if done.returncode or "FOUND" not in done.stdout:
        said = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        return {"reason": said[-1][:300]}
    found: dict[str, Any] = json.loads(done.stdout.rsplit("FOUND", 1)[1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--again", action="store_true", help="measure what is stored already, too")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    from kka.common.device import choose_device

    device = choose_device(asked.device)
    if asked.part:
        warnings.simplefilter("ignore")
        print("FOUND" + json.dumps(rounded(PARTS[asked.part](device, asked.size))))
        return
    from kka.common.files import write_atomically

    kind = "cpu" if device.type == "cpu" else "gpu"
    section, facts = place(device)
    stored = json.loads(asked.out.read_text()) if asked.out.is_file() else {}
    parts = stored.setdefault(section, {"machine": facts, "parts": {}})["parts"]
    for name in asked.only:
        size, old = SIZES[name][kind], parts.get(name, {})
        if old.get("size") == size and "reason" not in old and not asked.again:
            continue
        began, load = time.perf_counter(), os.getloadavg()[0]
        found = run_part(name, str(device), size, LIMIT[kind])
        parts[name] = {"size": size, **found, "took_s": round(time.perf_counter() - began, 1), "load": round(load, 1)}
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(asked.out, json.dumps(stored, indent=1) + "\n")
        print(name, json.dumps(parts[name]), flush=True)


if __name__ == "__main__":
    main()
