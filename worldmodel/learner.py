"""The learner: one batch in, every parameter a step better."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from worldmodel.config import Config
from worldmodel.losses.imagined import dream
from worldmodel.losses.joint import joint_terms, mean_over_valid
from worldmodel.machine import compute_dtype, cores, second_thread
from worldmodel.models import WorldModel
from worldmodel.structs import Batch, Latent, at, each, flatten

MOST_SKIPS = 10  # updates in a row without a finite gradient: more will not bring one
# The parts of a model that learn what to do; the others learn what the world does.
BEHAVIOUR = ("policy.", "value.", "slow_value.")


class Learner:
    """Holds what learning needs between two batches: optimizers, random state, scale of returns.

    ``averaged`` is the model to use: a moving average of the weights. Each step jumps after its own
    small batch, and what was learned from many hides under the last few jumps: ten rows ahead, the
    average's error is a fifth lower in one trial (assets/averaging_trials.csv).

    What an update has to find is two gradients that do not need each other: of the joint losses,
    back through the images, and of value and policy, from where the batch's rows lie. They are
    found side by side, on two cores where there are two; which of them is done first changes
    nothing.
    """

    def __init__(self, model: WorldModel, config: Config) -> None:
        self.model = model
        self.config = config
        self.device = next(model.parameters()).device
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        self.return_range = torch.zeros(2, device=self.device)  # moving 5th, 95th percentile
        self.averaged = copy.deepcopy(model).requires_grad_(False)
        self.pairs = [*self.averaged.parameters()], [*model.parameters()]  # found once
        self.updates = torch.zeros((), device=self.device)
        self.surprise = torch.zeros(0, 0)  # [B, T] of the last batch: nats times their weight
        self.skipped = False  # whether the last update changed no weight
        self.skips_in_a_row = 0
        self.precision = choose_precision(config.learner.precision, self.device)
        rates = config.learner
        named = model.named_parameters()
        self.world_parameters = [part for name, part in named if not name.startswith(BEHAVIOUR)]
        self.beside: Executor = second_thread() if cores() > 1 else InTurn()
        groups = [self.world_parameters]
        self.rates = [rates.model_rate]
        if model.policy is not None:
            groups += [[*model.value.parameters()], [*model.policy.parameters()]]
            self.rates += [rates.value_rate, rates.policy_rate]
        self.optimizer = torch.optim.Adam(
            [{"params": group} for group in groups], eps=rates.epsilon, fused=True
        )

    def update(self, batch: Batch) -> dict[str, float]:
        """One gradient step for the model, and one for value and policy in its imagination.

        An update whose gradient is NaN or infinite is skipped: weights, optimizer and average stay
        as they are. A few such batches are rare accidents of float32; MOST_SKIPS in a row end the
        run.
        """
        batch = batch.to(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        terms, posterior = joint_terms(
            self.model, batch, self.config.objective, self.generator, self.precision
        )
        self.surprise = terms["kl_dynamics"].detach()
        losses = {name: mean_over_valid(term, batch.valid) for name, term in terms.items()}
        refuse_infinite(losses)
        metrics = dict(losses)
        joint = torch.stack(list(losses.values())).sum()
        gradient = self.beside.submit(torch.autograd.backward, joint)
        try:
            if self.model.policy is not None:
                metrics |= self._learn_behaviour(each(posterior, Tensor.detach), batch.valid)
        finally:
            gradient.result()
        self._step()
        return {name: float(value.detach()) for name, value in metrics.items()}

    def state(self) -> dict[str, Tensor]:
        """What the optimizer and the model do not hold."""
        return {
            "generator": self.generator.get_state(),
            "return_range": self.return_range,
            "updates": self.updates,
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.generator.set_state(state["generator"].cpu())
        self.return_range.copy_(state["return_range"])
        self.updates.copy_(state["updates"])

    def _step(self) -> None:
        """Apply the gradients that were found, unless a group's norm is NaN or infinite."""
        groups = self.optimizer.param_groups
        norms = [gradient_norm(group["params"]) for group in groups]
        self.skipped = not bool(torch.isfinite(torch.stack(norms)).all())
        if self.skipped:
            self.skips_in_a_row += 1
            refuse_more_skips(self.skips_in_a_row)
            return
        self.skips_in_a_row = 0
        fallen = self._fallen()
        for group, rate, norm in zip(groups, self.rates, norms, strict=True):
            group["lr"] = rate * fallen
            clip_gradients(group["params"], self.config.learner.clip, norm)
        self.optimizer.step()
        if self.model.policy is not None:
            self.model.follow_value(self.config.imagination.target_rate)
        self._average()

    def _fallen(self) -> float:
        """What is left of the rates at the next update."""
        settle = self.config.learner.settle
        return 1.0 if settle is None else min(1.0, (settle / (float(self.updates) + 1)) ** 0.5)

    @torch.no_grad()
    def _average(self) -> None:
        """A plain mean of the first steps, then a moving one."""
        self.updates += 1
        rate = max(self.config.learner.averaging, 1 / float(self.updates))
        torch._foreach_lerp_(*self.pairs, rate)  # type: ignore[arg-type]
        for buffer, fitted in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
            buffer.copy_(fitted)

    def _learn_behaviour(self, posterior: Latent, valid: Tensor) -> dict[str, Tensor]:
        """Gradients of value and policy, from futures imagined at rows of the batch."""
        model, config, policy = self.model, self.config.imagination, self.model.policy
        assert policy is not None
        rows = valid.flatten().nonzero().squeeze(-1)
        order = torch.randperm(len(rows), generator=self.generator, device=self.device)
        rows = rows[order[: config.starts]]
        starts = at(flatten(posterior), rows)
        with self.precision():
            dreamed = dream(
                model,
                policy,
                starts,
                horizon=config.horizon,
                trace=config.trace,
                discount_rate=self.config.discount_rate,
                generator=self.generator,
            )
        returns = dreamed.returns.detach()
        percentiles = torch.quantile(returns, torch.tensor([0.05, 0.95], device=self.device))
        first = bool((self.return_range == 0).all())
        self.return_range.lerp_(percentiles, 1.0 if first else 0.01)
        scale = (self.return_range[1] - self.return_range[0]).clamp(min=1.0)

        entropy = policy.entropy(dreamed.spread)
        gain = dreamed.returns / scale + config.entropy * entropy - config.strain * dreamed.strain
        policy_loss = -(dreamed.weights * gain).mean()
        with self.precision():
            log_prob = model.value.log_prob(dreamed.features[:, :-1].detach(), returns)
        value_loss = -(dreamed.weights * log_prob).mean()
        refuse_infinite({"policy": policy_loss, "value": value_loss})
        # Through the world model's parameters, and never into them.
        learned = [*policy.parameters(), *model.value.parameters()]
        torch.autograd.backward(policy_loss + value_loss, inputs=learned)
        return {
            "policy": policy_loss.detach(),
            "value": value_loss.detach(),
            "entropy": entropy.detach().mean(),
            "strain": dreamed.strain.detach().mean(),
            "imagined_return": returns.mean(),
            "return_scale": scale,
        }


def gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """The length of all gradients as one vector: [], NaN or infinite where one of them is."""
    return nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])


def clip_gradients(parameters: Sequence[nn.Parameter], most: float, norm: Tensor) -> None:
    """Scale gradients of length ``norm``, which is finite, to at most ``most``."""
    if norm > most:
        nn.utils.clip_grads_with_norm_(parameters, most, norm)


class InTurn(Executor):
    """Work is done before ``submit`` returns: two threads on one core would cost a twentieth."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(work(*args, **kwargs))
        return done


def refuse_infinite(losses: Mapping[str, Tensor]) -> None:
    """Before the gradient, so that the parameters stay as good as they were."""
    for name, loss in losses.items():
        if not torch.isfinite(loss):
            raise RuntimeError(
                f"learner: the {name} loss became {loss.item()}; the last checkpoint is whole;"
                " try smaller rates (--learner.model_rate, value_rate, policy_rate)"
            )


def refuse_more_skips(in_a_row: int) -> None:
    if in_a_row >= MOST_SKIPS:
        raise RuntimeError(
            f"learner: the gradient was NaN or infinite in {in_a_row} updates in a row; no weight"
            " was changed by them, and the last checkpoint is whole; try smaller rates"
            " (--learner.model_rate, value_rate, policy_rate) or --learner.precision float32"
        )


def choose_precision(
    wanted: str, device: torch.device
) -> Callable[[], AbstractContextManager[None]]:
    """A context that multiplies as ``machine.compute_dtype`` says."""
    if compute_dtype(wanted, device) == torch.float32:
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)
