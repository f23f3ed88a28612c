"""Weigh the losses of several heads against each other."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from w2v_abx.system import checks

__all__ = ["DynamicAverage", "Fixed", "Uncertainty", "Weighting"]


class Weighting(nn.Module):
    """Make one loss out of the heads' mean losses. Its parameters and buffers are in the checkpoint."""

    def begin(self, names: Sequence[str], weights: Mapping[str, float]) -> None:
        """Get ready for the heads of these names; ``weights`` are those of their configs, which it multiplies."""
        self.names, self.weights = list(names), dict(weights)

    def combine(self, losses: Mapping[str, Tensor], share: float, asked: Collection[str]) -> Tensor | None:
        """Add up what a micro-batch has of the heads' mean losses; None: nothing of any.

        ``share``: its proportion of the step's clips. ``asked``: the heads that have a loss in this step.
        """
        return self.weighted(losses) if losses else None

    def weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Add up losses with the weights of the heads' configs."""
        return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()

    def step_end(self, losses: Mapping[str, Tensor]) -> None:
        """Take in the heads' losses of a training step."""

    def epoch_end(self) -> None:
        """Take in that an epoch is over."""

    def current(self) -> dict[str, float]:
        """Say what each head's loss is multiplied by now, where training changes that."""
        return {}


class Fixed(Weighting):
    """The weights of the heads' configs, as they are.

    Args:
        weights: others instead, by the heads' names; a head that is not named counts 0, as if it were not trained.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.given = None if weights is None else dict(weights)
        for name, weight in (self.given or {}).items():
            checks.number(f"weighting.weights.{name}", weight, low=0)
        if self.given is not None and not any(self.given.values()):
            raise checks.fail("weighting.weights", self.given, "weights of heads, one of them above 0")

    def begin(self, names: Sequence[str], weights: Mapping[str, float]) -> None:
        if self.given is not None:
            checks.several("weighting.weights", list(self.given), names)
            weights = {name: self.given.get(name, 0.0) for name in names}
        super().begin(names, weights)


class Uncertainty(Weighting):
    """Learn weights with the heads' uncertainty: the sum of weight · (exp(-s) · loss + s), each s from zero.

    Kendall, Gal and Cipolla (2018), Multi-task learning using uncertainty to weigh losses.
    """

    def begin(self, names: Sequence[str], weights: Mapping[str, float]) -> None:
        super().begin(names, weights)
        # A vector, so that weight decay spares it as it does biases.
        self.log_variance = nn.Parameter(torch.zeros(len(self.names)))

    def combine(self, losses: Mapping[str, Tensor], share: float, asked: Collection[str]) -> Tensor | None:
        if not asked:
            return None
        place = {name: number for number, name in enumerate(self.names)}
        # Each micro-batch has its share of s, also one without a clip of the head's.
        total = share * self.weighted({name: self.log_variance[place[name]] for name in asked})
        if losses:
            factors = {name: torch.exp(-self.log_variance[place[name]]) for name in losses}
            total = total + self.weighted({name: factors[name] * loss for name, loss in losses.items()})
        return total

    def current(self) -> dict[str, float]:
        factors = torch.exp(-self.log_variance.detach()).tolist()
        return {name: self.weights[name] * factor for name, factor in zip(self.names, factors, strict=True)}


class DynamicAverage(Weighting):
    """Weigh a head by how slowly its loss falls: K · softmax(r / temperature), r = loss(t - 1) / loss(t - 2) by epoch.

    The first two epochs weigh all alike. Liu, Johns and Davison (2019), End-to-end multi-task learning with attention.

    Args:
        temperature: the higher, the more even; the paper's is 2.
    """

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        self.temperature = checks.number("weighting.temperature", temperature, above=0)

    def begin(self, names: Sequence[str], weights: Mapping[str, float]) -> None:
        super().begin(names, weights)
        self.means: Tensor  # of each head's loss, in the epoch before last and in the last
        self.register_buffer("means", torch.full((2, len(self.names)), torch.nan))
        self.sums: Tensor  # of the losses of this epoch, and their number
        self.register_buffer("sums", torch.zeros(2, len(self.names)))

    def combine(self, losses: Mapping[str, Tensor], share: float, asked: Collection[str]) -> Tensor | None:
        factors = dict(zip(self.names, self._factors(), strict=True))
        return super().combine({name: factors[name] * loss for name, loss in losses.items()}, share, asked)

    def step_end(self, losses: Mapping[str, Tensor]) -> None:
        for place, name in enumerate(self.names):
            if name in losses:
                self.sums[0, place] += losses[name].detach()
                self.sums[1, place] += 1

    def epoch_end(self) -> None:
        self.means.copy_(torch.stack([self.means[1], self.sums[0] / self.sums[1]]))
        self.sums.zero_()

    def current(self) -> dict[str, float]:
        factors = self._factors().tolist()
        return {name: self.weights[name] * factor for name, factor in zip(self.names, factors, strict=True)}

    def _factors(self) -> Tensor:
        # A head without a loss in one of the epochs counts as one whose loss stays.
        ratio = torch.nan_to_num(self.means[1] / self.means[0], nan=1.0, posinf=1.0, neginf=1.0)
        return len(self.names) * torch.softmax(ratio / self.temperature, 0)
