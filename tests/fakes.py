"""Small honest stand-ins: a language model of six words' choice that learns, a painter of squares, and their task.

As a program it runs `kka`'s command line with them, or the scenarios of `test_resume` (see `main`).
"""

import contextlib
import dataclasses
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from kka.config import RunConfig
from kka.errors import UserError
from kka.protocols import DPOReport, Images, PreferencePair
from kka.settings.deep_sad import DeepSADSettings
from kka.task import Knowledge, Task, TestSet

COLORS = {
    "red": (205, 40, 40), "blue": (40, 60, 205), "green": (40, 180, 60), "yellow": (220, 210, 50),
    "white": (245, 245, 240), "purple": (140, 50, 170), "orange": (230, 130, 40), "pink": (240, 150, 180),
}  # fmt: skip
NUMBERS = {"three": 3, "four": 4, "five": 5, "six": 6, "eight": 8, "ten": 10}
SHAPES = ("round", "narrow", "pointed", "curled", "broad")
SIZES = {"small": 3, "large": 6, "huge": 8}
WALLS = {"grey": 128, "dark": 40, "pale": 200, "black": 10, "bright": 235}
SLOTS: tuple[tuple[str, ...], ...] = (tuple(SIZES), tuple(COLORS), tuple(NUMBERS), SHAPES, tuple(WALLS))


def caption_of(size: str, color: str, number: str, shape: str, wall: str) -> str:
    return f"a {size} {color} flower with {number} {shape} petals before a {wall} wall"


class FakeLanguageModel:
    """Chooses each word of a caption by its weight; `tune` moves the weights from easy words to hard ones."""

    def __init__(self, preference: dict[str, float] | None = None) -> None:
        self.weights = {word: 0.0 for slot in SLOTS for word in slot} | (preference or {})
        self.identity = "fake-writer"
        self.tokens_written = 0

    def sample(self, prompts: Sequence[str], n: int, *, seed: int) -> list[list[str]]:
        answers = []
        for index, _ in enumerate(prompts):
            rng = np.random.default_rng([seed, index])
            answers.append([f"{k + 1}. {caption_of(*self._words(rng))}." for k in range(n)])
        self.tokens_written += sum(len(text.split()) for texts in answers for text in texts)
        return answers

    def _words(self, rng: np.random.Generator) -> list[str]:
        words = []
        for slot in SLOTS:
            odds = np.exp([self.weights[word] for word in slot])
            words.append(str(rng.choice(slot, p=odds / odds.sum())))
        return words


class TunableFake(FakeLanguageModel):
    """The same with Eq. 7, in its way."""

    def tune(self, pairs: Sequence[PreferencePair], validation: Sequence[PreferencePair], *, seed: int) -> DPOReport:
        rate = 1.5 + np.random.default_rng(seed).random() / 10
        for pair in pairs:
            hard, easy = (set(text.split()) & set(self.weights) for text in (pair.hard, pair.easy))
            for word in hard - easy:
                self.weights[word] += rate / len(pairs)
            for word in easy - hard:
                self.weights[word] -= rate / len(pairs)
        return DPOReport(
            steps=1, train_pairs=len(pairs), validation_pairs=len(validation), train_loss=0.5,
            validation_loss=float("nan"), margin=0.1, accuracy=1.0, kl_to_base=0.01,
        )  # fmt: skip

    def save(self, path: Path) -> None:
        path.mkdir(parents=True)
        (path / "weights.json").write_text(json.dumps(self.weights))

    def restore(self, path: Path) -> None:
        self.weights = json.loads((path / "weights.json").read_text())


class Painter:
    """A square of the caption's colour and size on its wall, with a dot a petal; 16 x 16 and noisy by the seed."""

    identity = "fake-painter/1"

    def draw(self, captions: Sequence[str], *, seeds: Sequence[int]) -> Images:
        return np.stack([self._paint(c, s) for c, s in zip(captions, seeds, strict=True)])

    @staticmethod
    def _paint(caption: str, seed: int) -> np.ndarray:
        words = caption.split()
        rng = np.random.default_rng(seed)
        picture = np.full((16, 16, 3), next(v for w, v in WALLS.items() if w in words), dtype=np.float64)
        side = next(v for w, v in SIZES.items() if w in words)
        top, left = rng.integers(0, 16 - side, 2)
        picture[top : top + side, left : left + side] = next(v for w, v in COLORS.items() if w in words)
        for k in range(next(v for w, v in NUMBERS.items() if w in words)):
            picture[15 - k % 2, k] = 250
        return (picture + rng.normal(0, 6, picture.shape)).clip(0, 255).astype(np.uint8)


class BlackPainter(Painter):
    """Every picture is refused by the safety filter."""

    identity = "fake-black"

    def draw(self, captions: Sequence[str], *, seeds: Sequence[int]) -> Images:
        return np.zeros((len(captions), 16, 16, 3), np.uint8)


def _some_captions(rng: np.random.Generator, n: int, *, normal: bool) -> tuple[str, ...]:
    """Normals are large, red and five-petalled; anomalies of any kind but red."""
    captions = []
    for _ in range(n):
        size, color, number, shape, wall = (str(rng.choice(slot)) for slot in SLOTS)
        if normal:
            size, color, number = "large", "red", "five"
        elif color == "red":
            color = "blue"
        captions.append(caption_of(size, color, number, shape, wall))
    return tuple(captions)


def small_task(*, test: bool = True, knowledge: bool = True, test_seed: int = 1, shuffle: bool = False) -> Task:
    """24 normals and, if wanted, 16 + 16 test images and 30 known anomalies. `shuffle` permutes the test labels."""
    painter, rng = Painter(), np.random.default_rng(0)
    captions = _some_captions(rng, 24, normal=True)
    normals = painter.draw(captions, seeds=range(100, 124))
    known = _some_captions(rng, 30, normal=False)
    other = np.random.default_rng(test_seed)
    shown = _some_captions(other, 16, normal=True) + _some_captions(other, 16, normal=False)
    is_anomaly = np.arange(32) >= 16
    seen = ~is_anomaly | (np.arange(32) % 2 == 0)
    order = np.random.default_rng(5).permutation(32) if shuffle else np.arange(32)
    return Task(
        name="squares",
        normals=normals,
        captions=captions,
        domain="flowers",
        test=TestSet(
            images=painter.draw(shown, seeds=[1000 * test_seed + i for i in range(32)]),
            is_anomaly=is_anomaly[order],
            kinds=tuple("odd" if odd else "red" for odd in is_anomaly[order]),
            seen=seen[order],
        )
        if test
        else None,
        knowledge=Knowledge(
            images=painter.draw(known, seeds=range(300, 330)), captions=tuple((c,) for c in known), kinds=("odd",) * 30
        )
        if knowledge
        else None,
        source="fake",
        details={"made": "by tests/fakes.py"},
    )


FAST = RunConfig(
    data="fake",
    lm="fake",
    images="fake",
    rounds=2,
    initial=24,
    fresh=16,
    per_round=5,
    repeats=1,
    max_hard_share=0.9,
    representatives=2,
    autoencoder_epochs=1,
    quantile=0.6,
    seeds=1,
    sad=DeepSADSettings(epochs=1, pretrain_epochs=1, milestones=(), precision="fp32"),
)
"""A whole run in a few seconds."""


@contextlib.contextmanager
def fakes_registered(
    *, task: Callable[[], Task] = small_task, language: type = TunableFake, images: type = Painter, report: bool = False
) -> Iterator[None]:
    """`fake` is a language model and an image model, and data "fake" is `task()`; no report is written."""
    import kka.data
    import kka.imaging
    import kka.language
    import kka.run.execute

    def open_task(data: str, **options: Any) -> Task:
        return task() if data == "fake" else kka.data.open_task(data, **options)

    with contextlib.ExitStack() as stack:
        for members, member in ((kka.language.LANGUAGE_MODELS, language), (kka.imaging.IMAGE_MODELS, images)):
            stack.enter_context(mock.patch.dict(members, fake=lambda argument, member=member, **_: member()))
        stack.enter_context(mock.patch.object(kka.run.execute, "open_task", open_task))
        if not report:
            stack.enter_context(mock.patch.object(kka.run.execute, "_report", lambda out, progress: None))
        yield


def run_fake(config: RunConfig, out: Path, *, resume: bool = False, **fakes: Any) -> dict[str, Any]:
    """`kka.run.execute.run` with the fakes."""
    from kka.run.execute import run

    with fakes_registered(**fakes):
        return run(config, out, resume=resume)


def outcome(folder: Path) -> dict[str, bytes]:
    """Every file of a run but for what tells the time: name -> content. Hidden folders are work in progress."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and path.name not in ("stage.json", "ledger.json", "summary.json", ".lock", ".holder"):
            files[name] = path.read_bytes()
    summary = timeless(json.loads((folder / "summary.json").read_text()))
    return files | {"summary.json": json.dumps(summary, sort_keys=True).encode()}


def timeless(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary without its times and memory; which stages there were stays."""
    rest = {k: v for k, v in summary.items() if k not in ("wall_seconds", "peak_mb")}
    return rest | {"seconds": sorted(summary["seconds"])}


# --- as a program ----------------------------------------------------------------------------------------------


def _child(work: Callable[[], None]) -> int:
    """The process id of a fork that does `work`: exit code 0, 2 for a UserError (told on stderr), 1 for all else."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        work()
        code = 0
    except UserError as error:
        print(f"UserError: {error}", file=sys.stderr, flush=True)
        code = 2
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _stages(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("stage.json"))


def _again(folder: Path) -> None:
    run_fake(FAST, folder, resume=(folder / "config.yaml").is_file())


def _killed(folder: Path, duration: float, kills: int) -> dict[str, Any]:
    """kill -9 at random moments, until one try is left alone."""
    rng, stages, codes = random.Random(3), [], []
    for _ in range(kills):
        pid = _child(lambda: _again(folder))
        time.sleep(duration * rng.uniform(0.1, 0.45))
        os.kill(pid, signal.SIGKILL)
        codes.append(_wait(pid))
        stages.append(_stages(folder))
    return {"codes": codes, "stages": stages, "last": _wait(_child(lambda: _again(folder)))}


def _filled(folder: Path, limit: int) -> dict[str, Any]:
    """No file may grow past `limit` bytes; then the limit is gone."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        _again(folder)

    return {"full": _wait(_child(limited)), "stages": _stages(folder), "last": _wait(_child(lambda: _again(folder)))}


def _held(folder: Path) -> dict[str, Any]:
    """A second process on the directory of a living one."""
    from kka.common.store import Store

    with Store(folder, {"a": 1}):
        return {"pid": os.getpid(), "second": _wait(_child(lambda: Store(folder, {"a": 1}, resume=True)))}


def main(arguments: list[str]) -> int:
    """`fakes.py cli …`: kka's command line with the fakes. `fakes.py scenarios FOLDER`: what test_resume asks."""
    if arguments[0] == "cli":
        from kka.cli import main as cli

        with fakes_registered():
            return cli(arguments[1:])
    folder = Path(arguments[1])
    import kka.run.execute  # noqa: F401  # once, for all children

    started = time.perf_counter()
    facts: dict[str, Any] = {"whole": _wait(_child(lambda: _again(folder / "whole")))}
    duration = time.perf_counter() - started
    facts["killed"] = _killed(folder / "killed", duration, kills=5)
    facts["filled"] = {limit: _filled(folder / f"filled-{limit}", limit) for limit in (6_000, 1_000_000)}
    facts["held"] = _held(folder / "held")
    (folder / "facts.json").write_text(json.dumps(facts))
    return 0


def fast_arguments(out: Path) -> list[str]:
    """FAST on the command line."""
    options: list[str] = []
    names = "data lm images rounds initial fresh repeats per_round representatives seeds quantile autoencoder_epochs"
    for name, value in dataclasses.asdict(FAST).items():
        if name in names.split():
            options += [f"--{name.replace('_', '-')}", str(value)]
    return ["run", "--out", str(out), *options, "--sad.epochs", "1", "--sad.pretrain-epochs", "1"]


if __name__ == "__main__":
    # Under the name that the other modules import, so that there is one of each class.
    import fakes

    sys.exit(fakes.main(sys.argv[1:]))
