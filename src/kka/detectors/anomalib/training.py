"""A Lightning module of anomalib trained on images in memory, to the last epoch; nothing is written where you work."""

import logging
import random
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partialmethod
from typing import Any
from unittest import mock

import numpy as np
import torch

from kka.common.progress import Progress
from kka.detectors.anomalib.models import Model
from kka.detectors.anomalib.network import explained
from kka.detectors.graph import Preprocess, covered
from kka.errors import UserError
from kka.protocols import Images, Masks

LOGGERS = ("anomalib", "lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning")


class Batches:
    """Images as anomalib's own data give them, but prepared: shuffled anew each time, batches of nearly equal size.

    Anomalies come with masks, 1 where the anomaly is; without one, an anomaly is anomalous all over.
    """

    def __init__(
        self, normals: Images, anomalies: Images | None, masks: Masks | None, prepare: Preprocess, *, size: int,
        seed: int,
    ) -> None:  # fmt: skip
        self.normals, self.anomalies, self.masks = normals, anomalies, masks
        self.prepare, self.size, self.rng = prepare, size, np.random.default_rng(seed)
        self.images = len(normals) + (0 if anomalies is None else len(anomalies))

    def __len__(self) -> int:
        return -(-self.images // self.size)

    def __iter__(self) -> Iterator[Any]:
        for chosen in np.array_split(self.rng.permutation(self.images), len(self)):
            yield self.batch(chosen)

    def batch(self, chosen: np.ndarray) -> Any:
        """An `ImageBatch` of the images at these positions, normals first."""
        from anomalib.data import ImageBatch

        n = len(self.normals)
        normal, odd = chosen[chosen < n], chosen[chosen >= n] - n
        parts = [self.prepare(torch.from_numpy(self.normals[normal]))] if len(normal) else []
        gt_mask = None
        if self.anomalies is not None:
            side = self.prepare.crop
            gt_mask = torch.zeros(len(chosen), side, side)
            if len(odd):
                parts.append(self.prepare(torch.from_numpy(self.anomalies[odd])))
                masks = None if self.masks is None else torch.from_numpy(self.masks[odd])
                gt_mask[len(normal) :] = 1.0 if masks is None else covered(masks, self.prepare, (side, side)) > 0
        image = torch.cat(parts).contiguous()
        labels = torch.arange(len(chosen)) >= len(normal)
        return ImageBatch(image=image, gt_label=labels, gt_mask=gt_mask)


def train(
    module: Any, model: Model, batches: Batches, *, epochs: int | None, device: torch.device, of: str,
    progress: Progress | None = None,
) -> list[float]:  # fmt: skip
    """The losses of the epochs; empty for a model that learns nothing by gradients.

    Raises:
        KeyboardInterrupt: as it came; Lightning would end the program.
        UserError: what anomalib raises, in words.
    """
    from lightning.pytorch import LightningDataModule, Trainer
    from lightning.pytorch.callbacks import Callback

    class Data(LightningDataModule):
        train_batch_size = batches.size

        def train_dataloader(self) -> Any:
            return batches

        def val_dataloader(self) -> Any:
            return batches

    losses: list[list[float]] = []
    stopped: list[Exception] = []
    own = dict(module.trainer_arguments)
    passes = own.pop("max_epochs", None) or epochs or model.epochs or 1

    class Watch(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            losses.append([])

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            found = outputs if isinstance(outputs, dict) else {"loss": outputs}
            found = {"loss": found["loss"]} if "loss" in found else found
            values = [float(value.detach()) for value in found.values() if isinstance(value, torch.Tensor)]
            if values:
                losses[-1].append(sum(values))
            if progress is not None:
                try:
                    progress((len(losses) - 1) * len(batches) + batch_idx + 1, passes * len(batches))
                except Exception as error:
                    stopped.append(error)
                    raise

    own |= {"num_sanity_val_steps": 0, "devices": [device.index or 0] if device.type == "cuda" else 1}
    own["deterministic"] = "warn" if device.type == "cuda" else None  # it would switch off what `choose_device` set
    own |= {"check_val_every_n_epoch": passes, "limit_val_batches": 1 if model.validates else 0}
    own.pop("val_check_interval", None)
    with tempfile.TemporaryDirectory(prefix="kka-anomalib-") as scratch:
        trainer = Trainer(
            max_epochs=passes, accelerator={"cuda": "gpu"}.get(device.type, device.type), logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[Watch()],
            default_root_dir=scratch, **own,
        )  # fmt: skip
        before = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, datamodule=Data())
        except SystemExit:  # after Ctrl-C, which it ignores from then on
            signal.signal(signal.SIGINT, before)
            raise KeyboardInterrupt from None
        except Exception as error:
            if stopped or isinstance(error, UserError):  # whoever is told how far it is may end it
                raise
            raise explained(error, of, model) from error
    return [float(np.mean(epoch)) for epoch in losses if epoch] if trained(module) else []


def trained(module: Any) -> bool:
    """Whether a module learns by gradients, or fills a bank in one pass."""
    from anomalib.models.components import MemoryBankMixin

    return not isinstance(module, MemoryBankMixin)


@contextmanager
def quiet_and_seeded(seed: int) -> Iterator[None]:
    """In the block all random numbers follow from the seed, and neither libraries' notes nor bars are shown;
    afterwards everything is as it was."""
    from lightning.pytorch.utilities.seed import isolate_rng
    from tqdm.std import tqdm

    with ExitStack() as stack:
        stack.enter_context(isolate_rng())
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(mock.patch.object(tqdm, "__init__", partialmethod(tqdm.__init__, disable=True)))
        warnings.simplefilter("ignore")
        for name in LOGGERS:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        yield
