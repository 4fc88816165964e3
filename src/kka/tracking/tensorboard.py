"""TensorBoard, by torch's writer of event files."""

from pathlib import Path

from kka.tracking.news import News, Place


class TensorBoard:
    """``tensorboard[:folder]``: event files in the run's own folder, or in ``folder/<name of the run>``.

    `tensorboard --logdir runs` shows all runs in the folder `runs`. A resumed run writes one more file.
    """

    def __init__(self, argument: str | None, place: Place) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = place.folder / "tensorboard"
        if argument is not None:  # where it was, from whatever folder a run is resumed
            folder = Path(place.identity or Path(argument).expanduser().absolute() / place.folder.resolve().name)
        self.identity = str(folder)
        self._writer = SummaryWriter(str(folder))

    def log(self, news: News) -> None:
        """Write it and have it on disk."""
        if news.settings:
            rows = "\n".join(f"| {name} | {value} |" for name, value in news.settings.items())
            self._writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}")
        for scalar in news.scalars:
            self._writer.add_scalar(scalar.tag, scalar.value, scalar.step)
        for sheet in news.sheets:
            self._writer.add_image(sheet.tag, sheet.pixels, sheet.step, dataformats="HWC")
        for file in news.files:
            self._writer.add_text("files", str(file))  # TensorBoard keeps none
        self._writer.flush()

    def close(self, *, finished: bool) -> None:
        """Close the file."""
        self._writer.close()
