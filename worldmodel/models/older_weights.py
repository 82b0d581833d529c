"""Older weights: renamed to the names that a model's parts have today."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

# In older versions the filter was a network inside the dynamics.
INSIDE = "dynamics.posterior."


def with_todays_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under today's names; names that are today's already do not change."""
    renamed = {name: weight for name, weight in weights.items() if not name.startswith(INSIDE)}
    old = {
        name.removeprefix(INSIDE): weight
        for name, weight in weights.items()
        if name.startswith(INSIDE)
    }
    if not old:
        return renamed
    context_size = weights["dynamics.prior.0.0.weight"].shape[1]
    of_context, of_embed = old["0.0.weight"].tensor_split([context_size], 1)
    renamed["posterior.of_context.weight"] = of_context.contiguous()
    renamed["posterior.of_embed.weight"] = of_embed.contiguous()
    if "0.0.bias" in old:
        renamed["posterior.of_embed.bias"] = old["0.0.bias"]
    has_norm = "0.1.weight" in old
    last = 2 if has_norm else 1  # after the activation
    for kind in ("weight", "bias"):
        if has_norm:
            renamed[f"posterior.rest.0.{kind}"] = old[f"0.1.{kind}"]
        renamed[f"posterior.rest.{last}.{kind}"] = old[f"1.{kind}"]
    return renamed
