"""A training loop that can be killed at any moment and goes on to the same last bit.

What a step does depends on the weights and the step's number alone: its batch, noise and mirrorings come from
`derive_seed(seed, step)`. A checkpoint (safetensors) holds weights, their running mean, the optimiser's state and the
loss so far.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.training_utils import EMAModel
from jaxtyping import Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kka.common.files import replacing
from kka.errors import UserError
from kka.seeding import derive_seed

LOOK = 10
"""Steps after which the losses so far are fetched: a GPU is not waited for at each one."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a training did."""

    steps: int
    loss: float
    """Over about the last hundred steps."""
    pictures_per_second: float | None
    """Of this process, its first step apart. None: it had fewer than two to do."""
    multiply_adds: float | None
    """Of one picture, forward and backward; counted where there is a speed to compare."""


def batch_of(count: int, size: int, seed: int, step: int) -> Int[np.ndarray, "b"]:
    """The pictures of a step: every epoch goes through all of them, in an order of its own."""
    places = np.arange(step * size, (step + 1) * size)
    found = np.empty(size, int)
    for epoch in np.unique(places // count).tolist():
        order = np.random.default_rng(derive_seed(seed, "order", epoch)).permutation(count)
        mine = places // count == epoch
        found[mine] = order[places[mine] % count]
    return found


def generator_of(seed: int, step: int) -> torch.Generator:
    """Of all that is random in a step, on the CPU."""
    return torch.Generator().manual_seed(derive_seed(seed, "step", step))


class Fit:
    """AdamW with warm-up and a falling learning rate, and a running mean of the weights."""

    def __init__(
        self, networks: list[nn.Module], loss: Callable[[int], Tensor], *, steps: int, batch_size: int,
        learning_rate: float, ema: float, checkpoint: Path,
    ) -> None:  # fmt: skip
        """`loss`: of the step of that number. `checkpoint`: the file to go on from, where there is one.

        Raises:
            UserError: a checkpoint that cannot be read or is of other networks.
        """
        self.loss, self.steps, self.batch_size, self.learning_rate = loss, steps, batch_size, learning_rate
        self.checkpoint = checkpoint
        self.parameters = [p for network in networks for p in network.parameters()]
        self._optimiser = torch.optim.AdamW(self.parameters, lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
        self._mean = EMAModel(self.parameters, decay=ema, foreach=True)
        self.step, self.running = 0, float("nan")
        self._unseen: list[Tensor] = []  # losses of the last steps, which lie on the device
        if checkpoint.is_file():
            self._load()

    def run(self, *, save_every: int, told: Callable[[int, float], None]) -> Fitted:
        """Do the steps that are left, then put the mean of the weights in the networks' place.

        `told`: called with (steps done, loss as it was last looked at) after each step.

        Raises:
            UserError: a loss that is not finite, within `LOOK` steps, and before anything of it is saved.
        """
        first, started = self.step, time.perf_counter()
        while self.step < self.steps:
            for group in self._optimiser.param_groups:
                group["lr"] = self.learning_rate * self._share()
            loss = self.loss(self.step)
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self._optimiser.step()
            self._mean.step(self.parameters)
            self._unseen.append(loss.detach())
            self.step += 1
            saves = self.step % save_every == 0 or self.step == self.steps
            if saves or self.step == first + 1 or self.step % LOOK == 0:
                self._look()
            if self.step == first + 1:
                started = time.perf_counter()
            if saves:
                self._save()
            told(self.step, self.running)
        done, seconds = self.step - first - 1, time.perf_counter() - started
        multiply_adds = self._count() if done > 0 else None
        self._mean.copy_to(self.parameters)
        return Fitted(
            steps=self.steps,
            loss=self.running,
            pictures_per_second=self.batch_size * done / seconds if done > 0 else None,
            multiply_adds=multiply_adds,
        )

    def _look(self) -> None:
        """Take the losses since the last look into the running mean; here the device is waited for."""
        since = self.step - len(self._unseen)
        for step, value in enumerate(torch.stack(self._unseen).cpu().tolist(), start=since + 1):
            self.running = value if step == 1 else self.running + (value - self.running) / min(step, 100)
            if not np.isfinite(value):
                raise UserError(
                    f"images train: the loss is {value} at step {step}: expected a finite one. Take a smaller "
                    "--learning-rate, or --precision fp32."
                )
        self._unseen.clear()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the networks have the mean of the weights."""
        self._mean.store(self.parameters)
        self._mean.copy_to(self.parameters)
        try:
            yield
        finally:
            self._mean.restore(self.parameters)

    def _share(self) -> float:
        """Of the learning rate, in the step to come."""
        warm_up = min(1.0, (self.step + 1) / (1 + min(300, 0.05 * self.steps)))
        return warm_up * min(1.0, 2 * (1 - self.step / self.steps) + 0.02)

    def _count(self) -> float:
        """Multiply-adds for a picture; weights and randomness stay as they are."""
        with FlopCounterMode(display=False) as counter:
            self.loss(0).backward()
        self._optimiser.zero_grad(set_to_none=True)
        return counter.get_total_flops() / 2 / self.batch_size

    def _save(self) -> None:
        tensors = {f"weight.{i}": p.detach() for i, p in enumerate(self.parameters)}
        tensors |= {f"mean.{i}": p for i, p in enumerate(self._mean.shadow_params)}
        for i, state in self._optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{name}": value for name, value in state.items()}
        tensors |= {"step": torch.tensor(self.step), "loss": torch.tensor(self.running, dtype=torch.float64)}
        with replacing(self.checkpoint) as part:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)

    def _load(self) -> None:
        try:
            with safe_open(self.checkpoint, framework="pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            with torch.no_grad():
                for i, parameter in enumerate(self.parameters):
                    parameter.copy_(found[f"weight.{i}"])
                    self._mean.shadow_params[i].copy_(found[f"mean.{i}"])
            state = {i: self._state(p, i, found) for i, p in enumerate(self.parameters)}
            self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": state})
            self.step, self.running = int(found["step"]), float(found["loss"])
            self._mean.optimization_step = self.step
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise UserError(
                f"{self.checkpoint}: expected a checkpoint of this training; it cannot be read ({error}). Remove it to "
                "do this part of the training again."
            ) from error

    @staticmethod
    def _state(parameter: Tensor, i: int, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """The optimiser's, laid out in memory as it was: another layout may round otherwise."""
        state = {"step": found[f"optimiser.{i}.step"]}
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = torch.empty_like(parameter).detach().copy_(found[f"optimiser.{i}.{name}"])
        return state
