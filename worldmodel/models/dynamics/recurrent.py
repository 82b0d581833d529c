"""The recurrent state-space model: what is remembered, and what is drawn."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from worldmodel.models.layers import Layer
from worldmodel.models.products import multiplied
from worldmodel.structs import Latent


class Recurrent(nn.Module):
    """Latent dynamics with a deterministic and a Gaussian part (PlaNet)::

        prior, no image            posterior, with an image

        (action)                   (action)
             \\                          \\
        [h] -> [h']                [h] -> [h']
        (s) /    |                 (s) /    |  \\
                (s')                       (s') <- (image)

        h' = cell(f(s, action), h)      prior s' ~ N(h')      posterior s' ~ N(h', embed)

    Noise is handed in, never found: standard normal, or None to follow the mean.
    """

    def __init__(
        self,
        *,
        action_size: int,
        embed_size: int,
        deter_size: int,
        stoch_size: int,
        hidden_size: int,
        min_std: float,
        layer: Layer,
        cell: nn.Module,
    ) -> None:
        super().__init__()
        self.deter_size = deter_size
        self.stoch_size = stoch_size
        self.min_std = min_std
        self.join = layer(stoch_size + action_size, hidden_size)
        self.cell = cell
        self.prior = nn.Sequential(
            layer(deter_size, hidden_size), nn.Linear(hidden_size, 2 * stoch_size)
        )
        self.posterior = nn.Sequential(
            layer(deter_size + embed_size, hidden_size), nn.Linear(hidden_size, 2 * stoch_size)
        )

    @property
    def feature_size(self) -> int:
        return self.deter_size + self.stoch_size

    def initial(self, *batch: int) -> Latent:
        parameter = next(self.parameters())
        deter = parameter.new_zeros(*batch, self.deter_size)
        stoch = parameter.new_zeros(*batch, self.stoch_size)
        return Latent(deter, stoch, mean=stoch, std=torch.ones_like(stoch))

    def imagine_step(self, latent: Latent, action: Tensor, noise: Tensor | None) -> Latent:
        """The next latent without an image; action [..., A], noise [..., S]."""
        deter = self.remember(latent, action)
        return self.draw(deter, self.prior(deter), noise)

    def observe_step(
        self, latent: Latent, action: Tensor, embed: Tensor, noise: Tensor | None
    ) -> Latent:
        """The next latent with an image; embed [..., E]."""
        deter = self.remember(latent, action)
        return self.draw(deter, self.posterior(torch.cat([deter, embed], -1)), noise)

    def remember(self, latent: Latent, action: Tensor) -> Tensor:
        """What both share: [..., D]"""
        hidden = self.join(torch.cat([latent.stoch, action], -1))
        deter: Tensor = self.cell(hidden, latent.deter)
        return deter

    def draw(self, deter: Tensor, statistics: Tensor, noise: Tensor | None) -> Latent:
        mean, raw = statistics.chunk(2, -1)
        # of a half that stands apart: on 1000 rows of 30 the view takes 15 times as long
        std = functional.softplus(raw.contiguous()) + self.min_std
        return Latent(deter, mean if noise is None else mean + std * noise, mean, std)

    def prior_of(self, deter: Tensor) -> Latent:
        """The prior at remembered states, all times at once: [..., D]; its stoch is the mean."""
        return self.draw(deter, self.prior(deter), None)

    def observe(self, latent: Latent, action: Tensor, embed: Tensor, noise: Tensor) -> Latent:
        """Filter a whole window: [B, T, A], [B, T, E], [B, T, S] -> posterior [B, T].

        Every row is what ``observe_step`` makes of it, but what images alone decide is found for
        all times at once.
        """
        layer, last = self.posterior.children()
        first, *others = layer.children()
        assert isinstance(first, nn.Linear)
        rest = nn.Sequential(*others, last)
        of_deter, of_embed = first.weight.tensor_split([self.deter_size], 1)
        seen = multiplied(embed, of_embed, first.bias)  # [B, T, H]
        posteriors = []
        for act, see, draw in zip(action.unbind(1), seen.unbind(1), noise.unbind(1), strict=True):
            deter = self.remember(latent, act)
            latent = self.draw(deter, rest(torch.addmm(see, deter, of_deter.t())), draw)
            posteriors.append(latent)
        return Latent.stack(posteriors, 1)


def divergence(posterior: Latent, prior: Latent) -> Tensor:
    """KL of two diagonal Gaussians, summed over the stochastic part: [...]"""
    ratio = (posterior.std / prior.std).square()
    distance = ((posterior.mean - prior.mean) / prior.std).square()
    return 0.5 * (ratio + distance - 1 - ratio.log()).sum(-1)
