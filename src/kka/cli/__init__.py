"""The command line: `kka run`, `report`, `train`, `score`, `export`, `lm train`, `images`, `data`, `pool`,
`review`, `experiment`.

Nothing heavy is imported until a command needs it.
"""

import dataclasses
import os
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import field
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from annotated_types import Ge, Le

from kka.cli.data import Data, run_data
from kka.cli.detector import Export, Score, Train, run_export, run_score, run_train
from kka.cli.ending import ended, stopped
from kka.cli.experiment import Experiments, run_experiment
from kka.cli.images import Images, run_images
from kka.cli.logged import Hushed, asks_for_quiet, heard
from kka.cli.pool import Pool, run_pool
from kka.cli.review import Review, run_review
from kka.config import DetectorOptions, RunConfig
from kka.errors import UserError
from kka.settings import PartialShare, Seed, Text, errors_of_settings, settings
from kka.settings.needs import Needs

if TYPE_CHECKING:
    from kka.common.cluster import Cluster


@settings()
class Run(RunConfig, Hushed):
    """Algorithm 1 whole: imagine anomalies, draw them, find the hard ones, tune, repeat; then train and compare
    detectors. Without options it runs on the embedded world."""

    detector_options: Annotated[DetectorOptions, tyro.conf.arg(name="")] = field(default_factory=DetectorOptions)
    out: Path | None = None
    """The run directory. Default: runs/<data>-<date>-<time>."""
    resume: bool = False
    """Go on with the run in --out; no other option is needed."""
    track: tuple[Text, ...] = ()
    """Experiment trackers to show the run to: tensorboard[:folder], mlflow[:address], wandb[:project]. A resumed run \
goes on with those it had."""
    ray: Text | None = None
    """A Ray cluster that draws, samples captions and trains: auto (the one that this machine is part of), local (this \
machine alone), host:port or ray://host:port. Equal seeds give what one machine gives."""
    needs: Needs = field(default_factory=Needs)
    preview: Annotated[int, Ge(1), Le(64)] | None = None
    """Run nothing; show so many photos, captions and pictures of what the run would make, what the loader says of the \
data, and what time, memory, disk and calls it will take: in the terminal, and as one picture beside --out."""

    @property
    def config(self) -> RunConfig:
        """The run's configuration alone."""
        return RunConfig(**{f.name: getattr(self, f.name) for f in dataclasses.fields(RunConfig)})


@settings()
class Report:
    """Write report.html anew from what a run directory holds."""

    folder: Annotated[Path, tyro.conf.Positional]
    """The run directory."""


@settings()
class LM(Hushed):
    """Train a small language model on the captions of a data set's known classes, of the garden, or of defects."""

    action: Annotated[Literal["train"], tyro.conf.Positional]
    out: Path
    """Folder for the model, in Hugging Face format; use it as --lm hf:FOLDER."""
    data: Text = "garden"
    """garden, defects (sentences of a grammar), or a folder with train.parquet and test.parquet."""
    normal: tuple[Text, ...] = ()
    """The normal class: its captions are left out."""
    unseen: PartialShare = 0.0
    """Share of the anomaly classes to leave out as well."""
    split_seed: Seed = 0
    """Of the choice of classes that are left out, as in kka run."""
    seed: Seed = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status. Errors meant for people are printed without a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)

    def work() -> int:
        command = parse(arguments)
        if isinstance(command, Review):  # it works when it is asked
            return run_review(command)
        with heard(quiet=asks_for_quiet(command)):
            return _COMMANDS[type(command)](command)

    return ended(work)


RENAMED = {
    "--backbone": "--backbone.name",
    **{f"--backbone-{name}": f"--backbone.{name}" for name in ("weights", "padding", "mean", "std")},
}
"""Options as they were once called -> as they are."""


def parse(arguments: list[str]) -> Any:
    """The command, of one of the classes in `_COMMANDS`."""
    _refuse_empty(arguments)
    arguments = [
        RENAMED.get(name.replace("_", "-"), name) + equals + value
        for name, equals, value in (text.partition("=") for text in arguments)
    ]
    kinds: dict[str, type] = {
        "report": Report, "train": Train, "score": Score, "export": Export, "lm": LM, "images": Images,
        "data": Data, "pool": Pool, "review": Review, "experiment": Experiments,
    }  # fmt: skip
    commands: Any = Annotated[Run, tyro.conf.subcommand("run", default=_stored(arguments))]
    for name, kind in kinds.items():
        commands |= Annotated[kind, tyro.conf.subcommand(name)]
    with errors_of_settings():
        return tyro.cli(
            commands,
            args=arguments,
            prog="kka",
            description="Key Knowledge Augmentation: anomalies that a language model imagines, for sharper detectors.",
            config=(tyro.conf.FlagCreatePairsOff,),
        )


def _refuse_empty(arguments: list[str]) -> None:
    """An empty text is what an unset variable of a script leaves, and as a path it would be the folder one is in."""
    option = "arguments"
    for text in arguments:
        name, equals, value = text.partition("=")
        if text.startswith("--"):
            option = name
        if not text.strip() or (text.startswith("--") and equals and not value.strip()):
            raise UserError(f"{option}: expected a value; got an empty text. Give one, or leave the option out.")
        if "\0" in text:  # no name of a file can hold it, and Python says so in a traceback
            raise UserError(f"{option}: expected a text; got one with a zero byte in it.")


def _stored(arguments: list[str]) -> Run:
    """With --resume, the stored configuration stands in for the options that are not given."""
    if arguments[:1] != ["run"] or "--resume" not in arguments:
        return Run()
    given = [b for a, b in pairwise(arguments) if a == "--out"]
    given += [a.removeprefix("--out=") for a in arguments if a.startswith("--out=")]
    if not given:
        raise UserError("--resume: expected the run to go on with, as in kka run --out runs/x --resume; got no --out")
    from kka.algorithm.folder import RunFolder

    folder = RunFolder(Path(given[0]))
    if not folder.begun:
        return Run()  # the store says what is missing
    stored = folder.config()
    _require_own_classes_named(stored, arguments)
    return Run(**{f.name: getattr(stored, f.name) for f in dataclasses.fields(RunConfig)})


def _require_own_classes_named(stored: RunConfig, arguments: list[str]) -> None:
    """Raises UserError where a run's configuration alone names a class in the working folder: see `kka.common.own`."""
    from kka.common.own import Family, is_class_path, require_named_before
    from kka.detectors import DETECTORS, FAMILIES
    from kka.detectors import OWN as DETECTOR
    from kka.imaging import IMAGE_MODELS
    from kka.imaging import OWN as IMAGES
    from kka.language import LANGUAGE_MODELS
    from kka.language import OWN as LANGUAGE

    parts: dict[str, tuple[Family, Collection[str]]] = {
        "lm": (LANGUAGE, LANGUAGE_MODELS), "images": (IMAGES, IMAGE_MODELS),
        "detector": (DETECTOR, {**DETECTORS, **FAMILIES}),
    }  # fmt: skip
    for name, (family, members) in parts.items():
        path = getattr(stored, name)
        given = any(text == f"--{name}" or text.startswith(f"--{name}=") for text in arguments)
        if is_class_path(path, members) and not given:
            require_named_before(path, family, how=f"--{name} {path}")


def _run(command: Run) -> int:
    name = Path(command.data).name or "run"
    out = command.out or Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    _quiet()
    if command.preview is not None:
        return _preview(command, out)
    from kka.algorithm.folder import SUMMARY, RunFolder
    from kka.cli.progress import Console, print_summary
    from kka.run.execute import run

    console = Console()
    tell = partial(console.task, kept_in=SUMMARY)
    try:
        with _cluster(command) as cluster, console:
            summary = run(
                command.config, out, resume=command.resume, progress=console.progress, on_task=tell, say=console.say,
                track=command.track, cluster=cluster,
            )  # fmt: skip
    except KeyboardInterrupt as stop:
        kept = f"What was finished is kept; go on with: kka run --out {out} --resume"
        return stopped(stop, kept if RunFolder(out).begun else "Nothing was begun.")
    print_summary(summary, out)
    return 0


def _cluster(command: Run) -> "AbstractContextManager[Cluster | None]":
    if command.ray is None:
        return nullcontext()
    from kka.common.cluster import Cluster

    return Cluster(command.ray, command.needs)


def _preview(command: Run, out: Path) -> int:
    from kka.cli.progress import Console, print_preview
    from kka.run.preview import preview_run

    with Console() as console:
        found = preview_run(command.config, command.preview or 1, progress=console.progress, say=console.say)
    print_preview(found, out)
    return 0


def _report(command: Report) -> int:
    from kka.report import write_report

    print(f"Report: {write_report(command.folder)}")
    return 0


def _lm(command: LM) -> int:
    _quiet()
    from kka.cli.progress import Console
    from kka.common.hold import held
    from kka.common.writable import require_writable

    require_writable(command.out, "--out", folder=True)
    with held(command.out), Console() as console:

        def progress(done: int, total: int, _: float) -> None:
            console.progress("lm train", done, total)

        if command.data == "garden":
            from kka.language.train import train_garden_model

            report = train_garden_model(command.out, seed=command.seed, progress=progress)
        elif command.data == "defects":
            from kka.language.train_defects import train_defects_model

            report = train_defects_model(command.out, seed=command.seed, progress=progress)
        else:
            from kka.data import is_photos, open_task
            from kka.run.models import train_corpus_model

            if is_photos(Path(command.data)):
                raise _no_classes(command.data)
            task = open_task(
                command.data, normal=command.normal, unseen=command.unseen, seed=command.split_seed
            )
            console.task(task)
            if task.knowledge is None:
                raise _no_classes(command.data)
            report = train_corpus_model(task, command.out, seed=command.seed, progress=progress)
        learned = _learned(command, report.prompts)
    print(
        f"{command.out}: {report.parameters:,} parameters, {report.captions:,} captions of {report.kinds} kinds, "
        f"validation perplexity {report.validation_perplexity:.2f} a token, {report.seconds:.0f} s\n{learned}"
    )
    return 0


def _learned(command: LM, prompts: Sequence[str]) -> str:
    """What a person would ask of the new model, in a sentence."""
    if command.data == "defects":
        from kka.language.train_defects import ASKED, figures_of

        found = figures_of(command.out, seed=command.seed)
        return (
            f"Of {ASKED} captions of its own {found.named} name a defect that paint knows, {found.different} are "
            f"different, and {found.families} of {found.known} families come up."
        )
    heard = _heard(command.out, prompts, command.seed)
    return f"An answer tells {heard:.2f} nats of its prompt (their mutual information; 0: it does not depend on it)."


def _heard(folder: Path, prompts: Sequence[str], seed: int) -> float:
    """Nats an answer of a stored model tells of its prompt."""
    from kka.language.hf import HFLanguageModel
    from kka.language.measures import prompt_information

    return prompt_information(HFLanguageModel(folder, device="cpu"), prompts, seed=seed)


def _no_classes(data: str) -> UserError:
    return UserError(
        f"lm train: expected captions of classes beside the normal one; {data} has none. It takes --data garden or "
        "defects, or a folder with train.parquet, test.parquet and several classes. For photos, name a model in kka "
        "run: --lm defects, or hf:<hub id or folder>."
    )


def _quietly(run: Callable[[Any], int]) -> Callable[[Any], int]:
    def quiet(command: Any) -> int:
        _quiet()
        return run(command)

    return quiet


def _quiet() -> None:
    """Libraries that talk about themselves would break the progress display."""
    import warnings

    quiet = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module=r"(torch|transformers|trl|peft|diffusers|accelerate)\b")
    warnings.formatwarning = lambda message, *_where, **_more: f"Warning: {message}\n"  # without a line of code


_COMMANDS: dict[type, Callable[[Any], int]] = {
    Run: _run,
    Report: _report,
    Train: _quietly(run_train),
    Score: _quietly(run_score),
    Export: _quietly(run_export),
    LM: _lm,
    Images: _quietly(run_images),
    Data: run_data,
    Pool: _quietly(run_pool),
    Review: run_review,
    Experiments: _quietly(lambda command: run_experiment(command.action)),
}
