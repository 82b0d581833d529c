"""The learner: one gradient step of the world model and of the behaviour for each batch."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from worldmodel.behaviours import Behaviour, BehaviourSettings, LearnsFromRounds, Loss
from worldmodel.checks import at_least, more_than
from worldmodel.losses import at_update, mean_over_valid, terms_of
from worldmodel.machine import default_executor, precision_of
from worldmodel.models import WorldModel
from worldmodel.models.world import Inference
from worldmodel.replay import cut
from worldmodel.structs import Batch, Episode, each

MOST_SKIPS = 10  # updates in a row without a finite gradient, after which the run ends


@dataclass(frozen=True)
class LearnerSettings:
    model_rate: Annotated[float, more_than(0)] = 8e-4
    """Learning rate of the world model. Larger: it learns faster, and may diverge."""
    decay_after: Annotated[int | None, at_least(1)] = 1500
    """Updates after which all learning rates fall, by one over the root of the updates. none: they
    never fall."""
    epsilon: Annotated[float, more_than(0)] = 1e-5
    """Adam's epsilon, the floor of its denominator. Larger: smaller steps where gradients are
    tiny."""
    clip: Annotated[float, more_than(0)] = 100.0
    """Largest norm of a gradient, for the model and each part of the behaviour separately. Smaller:
    rare large gradients move weights less."""
    average_rate: Annotated[float, more_than(0, at_most=1)] = 0.01
    """How fast the averaged weights, which act, follow the learned ones. 1: they are the same."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of products in learning: auto takes bfloat16 if this machine is fast at it,
    else float32."""


@dataclass(frozen=True)
class Update:
    """The result of one update."""

    metrics: dict[str, float]
    # [B, T] the priority of each row in prioritised replay; None: no preference.
    priority: Tensor | None
    skipped: bool  # no weight was changed: a gradient was NaN or infinite


class Learner:
    """Keeps the state of learning between two batches: optimizer, random state, averaged weights.

    ``averaged`` is the model to use: a moving average of the weights. Each step follows the noise
    of its own small batch, which an average over many steps reduces: ten rows ahead, the average's
    error is a fifth lower in one trial (assets/trials/averaging_trials.csv).

    An update computes two gradients that do not depend on each other: of the objective, through the
    images, and of the behaviour, from the posterior of the batch. ``executor`` computes the first
    in parallel with the second if there are two cores; the order of their ends changes no result.
    A behaviour that ``tunes`` parameters of the world model goes through the images too: then its
    gradient comes first, and the objective's is added to it.
    """

    def __init__(
        self,
        model: WorldModel,
        objective: Any,
        behaviour: BehaviourSettings | None,
        settings: LearnerSettings,
        *,
        seed: int,
        discount_rate: float,
        executor: Executor | None = None,
    ) -> None:
        self.model, self.objective, self.settings = model, objective, settings
        self.device = next(model.parameters()).device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.averaged = copy.deepcopy(model).requires_grad_(False)
        self.pairs = [*self.averaged.parameters()], [*model.parameters()]  # listed once
        self.updates = torch.zeros((), device=self.device)
        self.skips_in_a_row = 0
        self.precision = precision_of(settings.precision, self.device)
        self.behaviour: Behaviour | None = None
        if behaviour is not None:
            self.behaviour = behaviour.build(model, discount_rate, self.precision)
        self.executor = default_executor() if executor is None else executor
        groups = [] if self.behaviour is None else self.behaviour.groups()
        behaviours = {id(parameter) for group in groups for parameter in group.parameters}
        self.world_parameters = [
            parameter
            for parameter in model.parameters()
            if parameter.requires_grad and id(parameter) not in behaviours
        ]
        self.rates = [settings.model_rate, *(group.rate for group in groups)]
        self.optimizer = torch.optim.Adam(
            [
                {"params": [*parameters]}
                for parameters in (self.world_parameters, *(group.parameters for group in groups))
            ],
            eps=settings.epsilon,
            fused=True,
        )

    def update(self, batch: Batch) -> Update:
        """One gradient step for the world model, and one for the behaviour.

        An update whose gradient is NaN or infinite is skipped: weights, optimizer and average do
        not change. Single batches with such a gradient are rare accidents of float32; MOST_SKIPS in
        a row end the run.
        """
        batch = batch.to(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        seen = self.model.infer(batch, self.generator, self.precision)
        objective = at_update(self.objective, int(self.updates))
        with self.precision():
            terms = terms_of(objective, self.model, seen, self.generator)
        losses = {name: mean_over_valid(term, batch.valid) for name, term in terms.items()}
        refuse_infinite(losses)
        metrics = dict(losses)
        # A behaviour starts from latents: the images are not kept while gradients are computed.
        seen = replace(seen, pixels=seen.pixels.new_empty(0))
        if self.behaviour is not None and self.behaviour.tunes:
            metrics |= self.learn_behaviour(seen)
            learn_joint([*losses.values()])
        else:
            gradient = self.executor.submit(learn_joint, [*losses.values()])
            try:
                if self.behaviour is not None:
                    metrics |= self.learn_behaviour(constant(seen))
            finally:
                gradient.result()
        skipped = not self._step(seen)
        priority = terms.get(self.objective.priority)
        return Update(
            {name: float(value.detach()) for name, value in metrics.items()},
            None if priority is None else priority.detach(),
            skipped,
        )

    @torch.no_grad()
    def collected(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """Let the behaviour learn from the episodes of a round, if its kind does: figures."""
        if not isinstance(self.behaviour, LearnsFromRounds):
            return {}
        places = [(number, 0) for number in range(len(episodes))]
        played = cut(episodes, places, max(map(len, episodes)))
        figures = self.behaviour.collected(self.averaged, played.to(self.device))
        self._copy_buffers()
        return figures

    def learn_behaviour(self, seen: Inference) -> dict[str, Tensor]:
        """Compute the gradients of the behaviour's losses, each into its own parameters."""
        assert self.behaviour is not None
        losses, figures = self.behaviour.losses(seen, self.generator)
        values = {loss.name: loss.value for loss in losses}
        refuse_infinite(values)
        learn(losses)
        return {**{name: value.detach() for name, value in values.items()}, **figures}

    def state(self) -> dict[str, Tensor]:
        """The state of learning that is not in the optimizer or the model, for a checkpoint."""
        behaviour = {} if self.behaviour is None else self.behaviour.state()
        return {"generator": self.generator.get_state(), "updates": self.updates, **behaviour}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.generator.set_state(state["generator"].cpu())
        self.updates.copy_(state["updates"])
        if self.behaviour is not None:
            self.behaviour.restore(state)

    def _step(self, seen: Inference) -> bool:
        """Apply the gradients and return True; False if a group's norm is NaN or infinite."""
        groups = self.optimizer.param_groups
        norms = [gradient_norm(group["params"]) for group in groups]
        if not bool(torch.isfinite(torch.stack(norms)).all()):
            self.skips_in_a_row += 1
            refuse_more_skips(self.skips_in_a_row)
            return False
        self.skips_in_a_row = 0
        share = self._share_of_rates()
        for group, rate, norm in zip(groups, self.rates, norms, strict=True):
            group["lr"] = rate * share
            clip_gradients(group["params"], self.settings.clip, norm)
        self.optimizer.step()
        self.model.stepped(seen)
        if self.behaviour is not None:
            self.behaviour.stepped()
        self._average()
        return True

    def _share_of_rates(self) -> float:
        """The factor of the learning rates at the next update."""
        after = self.settings.decay_after
        return 1.0 if after is None else min(1.0, (after / (float(self.updates) + 1)) ** 0.5)

    @torch.no_grad()
    def _average(self) -> None:
        """Update the averaged weights: a plain mean of the first steps, then a moving average."""
        self.updates += 1
        rate = max(self.settings.average_rate, 1 / float(self.updates))
        torch._foreach_lerp_(*self.pairs, rate)  # type: ignore[arg-type]
        self._copy_buffers()

    def _copy_buffers(self) -> None:
        for copied, buffer in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
            copied.copy_(buffer)


def constant(seen: Inference) -> Inference:
    """The same inference, through which no gradient passes."""
    posterior = each(seen.posterior, Tensor.detach)
    return replace(seen, posterior=posterior, embeds=seen.embeds.detach())


def learn_joint(losses: Sequence[Tensor]) -> None:
    """Compute the gradient of their sum; nothing where an objective has no terms."""
    if losses:
        torch.autograd.backward(torch.stack([*losses]).sum())


def learn(losses: Sequence[Loss]) -> None:
    """Add the gradient of each loss to the parameters that it names, and to no others.

    The graph stays, because losses may share parts of it, with each other and with the objective.
    """
    for loss in losses:
        torch.autograd.backward(loss.value, inputs=[*loss.into], retain_graph=True)


def gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """The norm of all gradients together: [], NaN or infinite if one of them is."""
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def clip_gradients(parameters: Sequence[nn.Parameter], most: float, norm: Tensor) -> None:
    """Scale gradients so that their norm, which is ``norm`` and finite, is at most ``most``."""
    if norm > most:
        nn.utils.clip_grads_with_norm_(parameters, most, norm)


def refuse_infinite(losses: Mapping[str, Tensor]) -> None:
    """Raise if a loss is NaN or infinite, before its gradient reaches the parameters."""
    for name, loss in losses.items():
        if not torch.isfinite(loss):
            raise RuntimeError(
                f"learner: the {name} loss became {loss.item()}; the last checkpoint is whole;"
                " try smaller rates (--learner.model_rate,"
                " --behaviour.value_rate, --behaviour.policy_rate)"
            )


def refuse_more_skips(in_a_row: int) -> None:
    """Raise after MOST_SKIPS skipped updates in a row."""
    if in_a_row >= MOST_SKIPS:
        raise RuntimeError(
            f"learner: the gradient was NaN or infinite in {in_a_row} updates in a row; no weight"
            " was changed by them, and the last checkpoint is whole; try smaller rates"
            " (--learner.model_rate, value_rate, policy_rate) or --learner.precision float32"
        )
