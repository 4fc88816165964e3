"""`kka images train`. The parser is light; what the command needs is imported when it runs."""

import dataclasses
import sys
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from kka.cli.ending import stopped
from kka.settings import PartialShare, Seed, Text, settings
from kka.settings.image_training import ImageTrainingSettings

if TYPE_CHECKING:
    from kka.imaging.train import ImageTrainingReport


@settings()
class Images:
    """Train a small text-to-image model on the captioned training pictures of a data set's known classes."""

    action: Annotated[Literal["train"], tyro.conf.Positional]
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


def run_images(command: Images) -> int:
    """What `kka images` does; returns the exit status."""
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
                say=lambda text: print(text, file=sys.stderr),
            )  # fmt: skip
    except KeyboardInterrupt as stop:
        return stopped(stop, f"What was saved is kept; go on with: kka images train --out {command.out} --resume")
    _print(report, command.out)
    return 0


def _as_begun(command: Images) -> Images:
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
    return dataclasses.replace(command, **chosen(command, Allowed(data=Images.data)), training=training)


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
