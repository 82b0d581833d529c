"""PlaNet in plain PyTorch, neither tuned nor slowed down: the baseline of the benchmarks.

It has the same sizes and operations as PlaNet in this package, in float32.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from worldmodel.models.encoders import PlanetSettings
from worldmodel.models.settings import ModelSettings
from worldmodel.planners import Sampling


class Sizes(Protocol):
    """The sizes of PlaNet's dynamics, named as in its settings."""

    @property
    def deter_size(self) -> int: ...

    @property
    def stoch_size(self) -> int: ...

    @property
    def hidden_size(self) -> int: ...

    @property
    def min_std(self) -> float: ...


class TransitionModel(nn.Module):
    def __init__(self, sizes: Sizes, action_size: int, embed_size: int) -> None:
        super().__init__()
        self.deter_size, self.stoch_size = sizes.deter_size, sizes.stoch_size
        self.min_std = sizes.min_std
        self.embed_state_action = nn.Linear(sizes.stoch_size + action_size, sizes.hidden_size)
        self.rnn = nn.GRUCell(sizes.hidden_size, sizes.deter_size)
        self.embed_prior = nn.Linear(sizes.deter_size, sizes.hidden_size)
        self.prior = nn.Linear(sizes.hidden_size, 2 * sizes.stoch_size)
        self.embed_posterior = nn.Linear(sizes.deter_size + embed_size, sizes.hidden_size)
        self.posterior = nn.Linear(sizes.hidden_size, 2 * sizes.stoch_size)

    def remember(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        hidden = functional.relu(self.embed_state_action(torch.cat([stoch, action], 1)))
        remembered: Tensor = self.rnn(hidden, deter)
        return remembered

    def imagine(self, deter: Tensor, stoch: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """[N, D], [N, S], [L, N, A] -> [L, N, D], [L, N, S]"""
        deters, stochs = [], []
        for action in actions:
            deter = self.remember(deter, stoch, action)
            hidden = functional.relu(self.embed_prior(deter))
            mean, raw = torch.chunk(self.prior(hidden), 2, dim=1)
            std = functional.softplus(raw) + self.min_std
            stoch = mean + std * torch.randn_like(mean)
            deters.append(deter)
            stochs.append(stoch)
        return torch.stack(deters), torch.stack(stochs)

    def observe(
        self, actions: Tensor, embeds: Tensor
    ) -> tuple[Tensor, Tensor, list[Normal], list[Normal]]:
        """[T, B, A], [T, B, E] -> [T, B, D], [T, B, S], priors, posteriors"""
        deter = actions.new_zeros(actions.shape[1], self.deter_size)
        stoch = actions.new_zeros(actions.shape[1], self.stoch_size)
        deters, stochs, priors, posteriors = [], [], [], []
        for action, embed in zip(actions, embeds, strict=True):
            deter = self.remember(deter, stoch, action)
            hidden = functional.relu(self.embed_prior(deter))
            mean, raw = torch.chunk(self.prior(hidden), 2, dim=1)
            priors.append(Normal(mean, functional.softplus(raw) + self.min_std))
            hidden = functional.relu(self.embed_posterior(torch.cat([deter, embed], 1)))
            mean, raw = torch.chunk(self.posterior(hidden), 2, dim=1)
            posteriors.append(Normal(mean, functional.softplus(raw) + self.min_std))
            stoch = posteriors[-1].rsample()
            deters.append(deter)
            stochs.append(stoch)
        return torch.stack(deters), torch.stack(stochs), priors, posteriors


class Planet(nn.Module):
    """PlaNet's model, its planner and its update."""

    def __init__(self, settings: ModelSettings, action_size: int) -> None:
        super().__init__()
        assert settings.reward is not None
        sizes = cast(Sizes, settings.dynamics)
        width = cast(PlanetSettings, settings.encoder).width
        head_size = settings.reward.size
        self.action_size = action_size
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 4, 2), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, 2), nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 4, 2), nn.ReLU(),
            nn.Conv2d(4 * width, 8 * width, 4, 2), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip
        features = sizes.deter_size + sizes.stoch_size
        self.transition = TransitionModel(sizes, action_size, embed_size=32 * width)
        self.start = nn.Linear(features, 32 * width)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(32 * width, 4 * width, 5, 2), nn.ReLU(),
            nn.ConvTranspose2d(4 * width, 2 * width, 5, 2), nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 6, 2), nn.ReLU(),
            nn.ConvTranspose2d(width, 3, 6, 2),
        )  # fmt: skip
        self.reward = nn.Sequential(
            nn.Linear(features, head_size), nn.ReLU(),
            nn.Linear(head_size, head_size), nn.ReLU(),
            nn.Linear(head_size, 1),
        )  # fmt: skip
        self.optimizer = torch.optim.Adam(self.parameters(), lr=1e-3, eps=1e-4)

    @torch.no_grad()
    def plan(self, search: Sampling) -> Tensor:
        """Run the cross-entropy method from the initial belief and return the first action [A]."""
        mean = torch.zeros(search.horizon, 1, self.action_size)
        std = torch.ones(search.horizon, 1, self.action_size)
        for _ in range(search.iterations):
            noise = torch.randn(search.horizon, search.candidates, self.action_size)
            actions = (mean + std * noise).clamp(-1, 1)  # [L, N, A]
            deter = torch.zeros(search.candidates, self.transition.deter_size)
            stoch = torch.zeros(search.candidates, self.transition.stoch_size)
            deters, stochs = self.transition.imagine(deter, stoch, actions)
            rewards = self.reward(torch.cat([deters, stochs], 2))
            returns = rewards.sum((0, 2))
            best = actions[:, returns.topk(search.elites).indices]
            mean, std = best.mean(1, keepdim=True), best.std(1, unbiased=False, keepdim=True)
        return mean[0, 0]

    def update(self, images: Tensor, actions: Tensor, rewards: Tensor) -> Tensor:
        """Make one gradient step on bytes [T, B, 3, H, W], actions [T, B, A] and rewards [T, B]."""
        pixels = images.float() / 255 - 0.5
        pixels = pixels + torch.rand_like(pixels) / 32
        embeds = self.encoder(pixels.flatten(0, 1)).unflatten(0, images.shape[:2])
        deters, stochs, priors, posteriors = self.transition.observe(actions, embeds)
        features = torch.cat([deters, stochs], 2)
        hidden = self.start(features.flatten(0, 1))[:, :, None, None]
        drawn = self.decoder(hidden).unflatten(0, images.shape[:2])
        divergence = torch.stack(
            [
                kl_divergence(posterior, prior).sum(1)
                for posterior, prior in zip(posteriors, priors, strict=True)
            ]
        )
        loss = (
            0.5 * (drawn - pixels).square().sum((2, 3, 4)).mean()
            + 5.0 * (self.reward(features).squeeze(2) - rewards).square().mean()
            + divergence.clamp(min=3.0).mean()
        )
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), 1000.0)
        self.optimizer.step()
        detached: Tensor = loss.detach()
        return detached
