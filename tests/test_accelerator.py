"""What is only reached on a GPU, on an accelerator that is none (`accelerator`): no 64-bit floats there, nothing of the
CPU in its sums, and nothing that waits for it at each step."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kka.common.device
from accelerator import DEVICE, accelerator
from kka.algorithm.evaluator import train_evaluator
from kka.common.augment import within
from kka.common.device import autocast_dtype, choose_device, half_precision, seeded
from kka.detectors import DETECTORS, build_detector, fit_detector
from kka.detectors.graph import in_batches
from kka.errors import UserError
from kka.language.hf import HFLanguageModel
from kka.language.loading import weights_dtype
from kka.language.logps import shared_logps
from kka.protocols import Detector
from kka.settings.deep_sad import DeepSADSettings
from language_fakes import CAPTIONS, save_tiny_model
from test_detector_contract import BACKBONE, BACKBONED, captions, pictures
from test_language_chat import NoDoubles

STEPS = {
    "sad": ("epochs=1", "pretrain_epochs=1", "milestones=", "batch_size={}"),
    "ssd": ("epochs=1", "batch_size={}"),
    "cmda": ("image_epochs=1", "generation_epochs=1", "batch_size={}"),
    "simplenet": ("epochs=1", "size=32", "crop=32", "dimension=32", "batch_size={}"),
    "patchcore": ("size=32", "crop=32", "dimension=32", "most={}"),
    "dfm": ("size=32", "crop=32"),
    "recontrast": ("size=32", "iterations={}"),
}
"""Settings on top of the `cpu` preset, of which one makes fewer or more steps."""
FEW_AND_MORE = {"patchcore": (2, 4), "recontrast": (2, 4)}
"""Of the others: batches of six, and of two."""


def fit(name: str, number: int, device: str) -> Detector:
    overrides = [text.format(number) for text in STEPS[name]]
    backbone = BACKBONE if name in BACKBONED else None
    detector = build_detector(
        name, preset="cpu", overrides=[*overrides, f"device={device}"], backbone=backbone, seed=1
    )
    hard = np.arange(4) % 2 == 0
    return fit_detector(detector, pictures(6), pictures(4, seed=1), captions=captions(6), hard=hard)


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_detectors_on_an_accelerator(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On every GPU: a tensor that was left on the CPU, as SAD's preparation was. On Apple's: a double. On each: a
    training that waits for the device at every step."""
    assert STEPS.keys() == DETECTORS.keys()
    waited = []
    for number in FEW_AND_MORE.get(name, (6, 2)):
        with accelerator(monkeypatch) as mode:
            there = fit(name, number, DEVICE.type)
            waited.append(Counter(mode.waits))
            scores = there.score(pictures(3, seed=2))
            if hasattr(there, "score_map"):
                assert there.score_map(pictures(3, seed=2)).shape == (3, 32, 32)
    assert not waited[1] - waited[0], "more steps: the device is waited for more often"
    here = fit(name, number, "cpu").score(pictures(3, seed=2))
    np.testing.assert_allclose(scores, here, atol=0.02 * np.abs(here).max())


def test_the_evaluator_on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge of every round."""
    settings = DeepSADSettings(epochs=1, pretrain_epochs=1, milestones=(), device=DEVICE.type)
    with accelerator(monkeypatch) as mode:
        evaluator, relative = train_evaluator(
            pictures(6), pictures(4, seed=1), settings=settings, quantile=0.9, seed=0, fold_seed=0
        )
        assert np.isfinite(relative).all() and evaluator.embed(pictures(2)).shape == (2, 256)
    assert mode.operations


def test_the_accelerator_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that lets everything through would pass whatever it is given."""
    with accelerator(monkeypatch) as mode:
        x = torch.ones(3).to(DEVICE)
        with pytest.raises(TypeError, match="no float64"):
            x.double()
        with pytest.raises(TypeError, match="no float64"):
            torch.zeros(3, dtype=torch.float64).to(DEVICE)
        with pytest.raises(RuntimeError, match="on the CPU"):
            x + torch.ones(3)
        assert not mode.waits
        assert float(x.sum()) == 3 and mode.waits.total() == 1


def test_within_means_border() -> None:
    """MPS of torch 2.10 has no "border": crops at the edge of an image would be dark there."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 5, 7, generator=generator)
    grid = 3 * torch.rand(2, 9, 9, 2, generator=generator) - 1.5
    wanted = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    found = F.grid_sample(x, within(grid, 5, 7), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_weights_are_drawn_without_a_gpus_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.manual_seed` sets those of all devices, which nothing puts back: what a caller draws there would repeat
    itself."""
    before = torch.get_rng_state()
    for module in (torch.cuda, torch.mps, torch.xpu):
        for name in ("manual_seed", "manual_seed_all"):
            monkeypatch.setattr(module, name, _refuse, raising=False)
    made = seeded(lambda: torch.nn.Linear(2, 2), torch.device("cpu"), seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    monkeypatch.undo()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        assert torch.equal(made.weight, torch.nn.Linear(2, 2).weight)


def _refuse(*_: object) -> None:
    raise AssertionError("a GPU's generator was seeded")


def test_scores_are_in_full_precision() -> None:
    """TF32 rounds scores by 1e-3: an export, which allows 1e-4, would be refused on every newer GPU."""
    seen: list[str] = []
    convolutions = torch.backends.cudnn.conv

    def module(pixels: torch.Tensor) -> torch.Tensor:
        seen.extend((convolutions.fp32_precision, torch.backends.cuda.matmul.fp32_precision))
        return pixels.float().mean(dim=(1, 2, 3))

    before = convolutions.fp32_precision
    in_batches(module, pictures(2), torch.device("cpu"))
    assert seen == ["ieee", "ieee"] and convolutions.fp32_precision == before != "ieee"


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is set for the whole process, put back."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    filled, benchmark = torch.utils.deterministic.fill_uninitialized_memory, torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = filled
    torch.backends.cudnn.benchmark = benchmark


@pytest.mark.usefixtures("flags")
def test_cuda_is_made_repeatable_and_a_cpu_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal seeds would give other networks on a GPU from run to run; a CPU's results must not change with it."""
    choose_device("cpu")
    assert not torch.are_deterministic_algorithms_enabled()
    cpu, empty = torch.device("cpu"), torch.empty
    monkeypatch.setattr(torch, "empty", lambda *sizes, device=cpu, **more: empty(*sizes, **more))
    assert choose_device("cuda:0") == torch.device("cuda:0")
    assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.backends.cudnn.benchmark
    assert kka.common.device.os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_the_dtype_of_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """fp32 that is loaded in 16 bits is rounded for good; bf16 that a GPU has not is slow or an error."""
    gpu, mps, cpu = (torch.device(name) for name in ("cuda", "mps", "cpu"))
    for has in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True, has=has: has)
        monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor, has=has: has)
        for device in (gpu, mps):
            half = torch.bfloat16 if has else torch.float16
            assert half_precision(device) == half == weights_dtype("auto", device)
            assert weights_dtype("fp32", device) == torch.float32
            if not has:
                with pytest.raises(UserError, match="this GPU has no bf16"):
                    weights_dtype("bf16", device)
        assert autocast_dtype("auto", mps) is None
    assert weights_dtype("auto", cpu) == torch.float32 and weights_dtype("bf16", cpu) == torch.bfloat16


def test_shared_log_probabilities_without_doubles(tmp_path: Path) -> None:
    """A large model's tuning on an Apple GPU would end at its references."""
    model = HFLanguageModel(save_tiny_model(tmp_path / "lm"), device="cpu")
    prompts = [model.encode("a flower")] * 2
    answers = [model.chat.answer_ids("a flower", text) for text in CAPTIONS[:2]]
    with NoDoubles():
        found = shared_logps(model.model, prompts, answers)
    assert found.dtype == np.float64 and (found < 0).all()
