"""`kka images train` and `kka images measure`. The parser is light; what the command needs is imported when it runs."""

import dataclasses
import re
import shlex
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from kka.cli.ending import stopped
from kka.cli.logged import Hushed
from kka.errors import UserError
from kka.settings import PartialShare, Seed, Side, Text, settings
from kka.settings.backbone import BackboneSettings
from kka.settings.drawing import DrawingSettings
from kka.settings.image_training import ImageTrainingSettings
from kka.settings.quality import QualitySettings

if TYPE_CHECKING:
    from kka.imaging.train import ImageTrainingReport
    from kka.run.quality import Quality


PLAIN = "plain"
"""No backbone."""


@settings()
class TrainImages(Hushed):
    """Train a small text-to-image model on the captioned training pictures of a data set's known classes."""

    out: Path
    """Folder for the model, in diffusers' format; use it as --images diffusers:FOLDER. Checkpoints and sheets of \
samples lie in FOLDER.training until it is done."""
    data: Text = "garden"
    """A folder with train.parquet and test.parquet, a folder of captioned images, or garden."""
    normal: tuple[Text, ...] = ()
    """The normal class: its pictures are left out."""
    unseen: PartialShare = 0.0
    """Share of the anomaly classes to leave out as well."""
    split_seed: Seed = 0
    """Of the choice of classes that are left out, as in kka run."""
    known: tuple[Text, ...] = ()
    """All classes that the model may know, in the place of --unseen. With neither this nor --normal: all."""
    resume: bool = False
    """Go on with the training of --out; no other option is needed."""
    training: Annotated[ImageTrainingSettings, tyro.conf.arg(name="")] = field(default_factory=ImageTrainingSettings)


@settings()
class MeasureImages(Hushed):
    """Measure how good an image model is, against real pictures that it never saw: whether what it draws shows the
    words of the caption, how far it is from real pictures, and whether it copies."""

    model: Annotated[Text, tyro.conf.Positional]
    """A model's folder, or any image model as kka run --images has it."""
    data: Text | None = None
    """A folder with train.parquet and test.parquet, or garden. Default: what the model was trained on."""
    normal: tuple[Text, ...] = ()
    """With `unseen`, `split_seed` and `known`: which pictures stand for what the model learned from, as in kka images \
train. Default: what the model says."""
    unseen: PartialShare = 0.0
    split_seed: Seed = 0
    known: tuple[Text, ...] = ()
    size: Side | None = None
    """Side in pixels at which pictures are compared. Default: that of the model's pictures; else 64."""
    out: Path | None = None
    """Folder for quality.json and quality.png. Default: MODEL-quality."""
    quality: Annotated[QualitySettings, tyro.conf.arg(name="")] = field(default_factory=QualitySettings)
    drawing: DrawingSettings = field(default_factory=DrawingSettings)
    backbone: BackboneSettings = field(default_factory=lambda: BackboneSettings(name=PLAIN))
    """To look through. plain: no network, but statistics of colours and edges."""


@settings()
class Images:
    """Train a small image model, or measure how good one is."""

    command: Annotated[
        Annotated[TrainImages, tyro.conf.subcommand("train")]
        | Annotated[MeasureImages, tyro.conf.subcommand("measure")],
        tyro.conf.arg(name=""),
    ]


def run_images(command: Images) -> int:
    """What `kka images` does; returns the exit status."""
    return _measure(command.command) if isinstance(command.command, MeasureImages) else _train(command.command)


def _train(command: TrainImages) -> int:
    from kka.cli.progress import Console
    from kka.common.writable import require_writable
    from kka.run.drawing import Allowed, train_drawing_model

    require_writable(command.out, "--out", folder=True)
    if command.resume:
        command = _as_begun(command)
    allowed = Allowed(
        data=command.data, normal=command.normal, unseen=command.unseen, split_seed=command.split_seed,
        known=command.known,
    )  # fmt: skip
    console = Console()
    try:
        with console:
            report = train_drawing_model(
                allowed, command.out, settings=command.training, resume=command.resume, progress=console.progress,
                say=console.say,
            )  # fmt: skip
    except KeyboardInterrupt as stop:
        return stopped(stop, f"What was saved is kept; go on with: kka images train --out {command.out} --resume")
    _print(report, command.out)
    return 0


def _as_begun(command: TrainImages) -> TrainImages:
    """With --resume, the stored settings stand in for the options that are not given; given ones are compared."""
    from kka.imaging.training_folder import begun
    from kka.run.drawing import Allowed

    stored = begun(command.out)

    def chosen(given: Any, default: Any) -> dict[str, Any]:
        found = {}
        for name in (f.name for f in dataclasses.fields(default) if f.name in stored):
            value = getattr(given, name)
            kept = tuple(stored[name]) if isinstance(stored[name], list) else stored[name]
            found[name] = kept if value == getattr(default, name) else value
        return found

    training = ImageTrainingSettings(**chosen(command.training, ImageTrainingSettings()))
    return dataclasses.replace(command, **chosen(command, Allowed(data=TrainImages.data)), training=training)


def _print(report: "ImageTrainingReport", out: Path) -> None:
    from kka.common.machine import matrix_rate

    print(
        f"{out}: {report.parameters:,} parameters, {report.pictures:,} pictures with {report.captions:,} captions, "
        f"autoencoder {report.psnr:.1f} dB, loss {report.fitted['drawing'].loss:.4f}; samples: {out / 'samples.png'}"
    )
    rate = matrix_rate(report.device, report.dtype) / 2
    for stage, fitted in report.fitted.items():
        if fitted.pictures_per_second is not None and fitted.multiply_adds is not None:
            floor = rate / fitted.multiply_adds
            print(
                f"{stage}: {fitted.pictures_per_second:,.1f} pictures a second; {fitted.multiply_adds / 1e6:,.0f} "
                f"million multiply-adds each, which {report.device.type}'s {rate / 1e9:,.0f} billion a second allow "
                f"{floor:,.1f} of ({fitted.pictures_per_second / floor:.0%})"
            )


def _measure(command: MeasureImages) -> int:
    from kka.cli.progress import Console
    from kka.common.writable import require_writable
    from kka.run.drawing import Allowed
    from kka.run.measure import default_size, measure_image_model, spec_of, stored_choice

    spec = spec_of(command.model)
    asked = {name: getattr(command, name) for name in ("data", "normal", "unseen", "split_seed", "known")}
    stored = stored_choice(spec)
    if given := [name for name, value in asked.items() if value != getattr(MeasureImages, name)]:
        if command.data is None:
            raise UserError(f"images measure: expected --data with --{given[0].replace('_', '-')}; got none")
        moved = given == ["data"] and stored is not None  # the model's own classes, wherever the data lies now
        allowed = dataclasses.replace(stored[0], data=command.data) if moved and stored else Allowed(**asked)
    elif stored is None:
        raise UserError(
            f"images measure: expected --data, as {spec} does not say what it was trained on; got none. Give a folder "
            "with train.parquet and test.parquet, or garden."
        )
    else:
        allowed = stored[0]
    size = command.size or default_size(stored, allowed)
    out = command.out or _beside(command.model)
    require_writable(out, "--out", folder=True)
    whole = dataclasses.replace(command, **dataclasses.asdict(allowed), size=size, out=out, quiet=False)
    console = Console()
    try:
        with console:
            found = measure_image_model(
                spec, allowed, out, size=size, settings=command.quality, drawing=command.drawing,
                backbone=_backbone(command.backbone),
                command=_written(whole), progress=console.progress, say=console.say,
            )  # fmt: skip
    except KeyboardInterrupt as stop:
        return stopped(stop, "Drawn pictures are kept; the same command goes on.")
    _tell(found, out)
    return 0


def _backbone(asked: BackboneSettings) -> BackboneSettings | None:
    """The backbone that is asked for; None for plain statistics."""
    if asked.name != PLAIN:
        return asked
    if asked != BackboneSettings(name=PLAIN):
        raise UserError(
            "images measure: expected --backbone.name, a timm architecture, with the other settings of a backbone; got "
            f"{PLAIN}, which has none"
        )
    return None


def _beside(model: str) -> Path:
    """Where the figures of a model go, unasked: never into its folder, whose files say which model it is."""
    folder = Path(model.removeprefix("diffusers:")).expanduser()
    if folder.is_dir():
        folder = folder.resolve()
        return folder.with_name(f"{folder.name}-quality")
    return Path(f"{re.sub(r'[^A-Za-z0-9._-]+', '-', model)}-quality")


def _written(command: MeasureImages) -> str:
    """The command line that measures the same again."""
    from kka.common.begun import flat
    from kka.common.options import as_words

    given, usual = (flat(dataclasses.asdict(asked)) for asked in (command, MeasureImages(model=command.model)))
    return shlex.join(["kka", "images", "measure", command.model, *as_words(given, usual, unnamed="quality.")])


def _tell(found: "Quality", out: Path) -> None:
    """The figures as a table in words."""
    from rich.table import Table

    from kka.common.terminal import terminal
    from kka.imaging.quality.copies import QUANTILE
    from kka.run.measure import BIAS, FIGURES, SHEET

    table = Table(title=f"{found.pictures:,} drawn pictures, beside as many held-out real ones of the same captions")
    for title in ("", "drawn", "real", "by chance"):
        table.add_column(title, justify="left" if not title else "right")
    for kind, means in found.means().items():
        several = [w for w in found.words if kind in ("all", w.kind)]
        name = f"{'words' if kind == 'all' else f'{kind} words'} of the caption seen in the picture ({len(several)})"
        for figure, title in (("auroc", "AUROC, %"), ("balanced", "balanced accuracy, %")):
            drawn, real = (100 * means[f"{side}_{figure}"] for side in ("drawn", "real"))
            table.add_row(f"{name}, {title}", f"{drawn:.1f}", f"{real:.1f}", "50.0")
    table.add_row(
        f"Fréchet distance to {found.pictures:,} other real ones", f"{found.frechet_drawn:.1f}",
        f"{found.frechet_real:.1f}", "–",
    )  # fmt: skip
    for figures in found.copies:
        table.add_row(
            f"nearest training picture ({figures.of}): nearer than {100 * QUANTILE:.0f} % of real ones, %",
            f"{100 * figures.drawn_nearer:.1f}", f"{100 * QUANTILE:.1f}", "–",
        )  # fmt: skip
    console = terminal()
    console.print(table)
    if not found.words:
        console.print("No word of a colour or a shape is frequent enough to be measured.")
    if found.set_aside:
        console.print(f"{found.set_aside:,} drawn pictures show nothing and are left out.")
    console.print(BIAS, soft_wrap=True)
    console.print(f"Figures: {out / FIGURES}; to look at: {out / SHEET}", soft_wrap=True)
