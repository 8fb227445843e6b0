"""The average of a network's weights over its training: what is kept of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a module's weights and buffers, float32; follows closely at first."""

    def __init__(self, module: nn.Module, decay: float):
        self.decay, self.steps = decay, 0
        self.state = {name: value.detach().clone().float() for name, value in module.state_dict().items()}

    def to(self, device: torch.device) -> None:
        """Move it to where the module is."""
        self.state = {name: value.to(device) for name, value in self.state.items()}

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Go on from a saved state."""
        self.steps = steps
        for name, value in self.state.items():
            value.copy_(state[name])

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the module's weights after a step."""
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        values = module.state_dict()
        floats = [name for name, value in values.items() if value.dtype == torch.float32]
        torch._foreach_lerp_(
            [self.state[name] for name in floats], [values[name].detach() for name in floats], 1 - decay
        )
        for name in values.keys() - set(floats):
            self.state[name].lerp_(values[name].detach().float(), 1 - decay)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """The module with the averaged weights, in evaluation mode; its own are put back."""
        kept = {name: value.clone() for name, value in module.state_dict().items()}
        training = module.training
        module.load_state_dict(self.state)
        module.eval()
        try:
            yield
        finally:
            module.load_state_dict(kept)
            module.train(training)
