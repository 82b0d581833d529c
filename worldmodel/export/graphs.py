"""ONNX graphs of a model: what a plan needs, recorded while torch computes it.

Torch's exporter runs the model's own code once on symbolic tensors, so there is no second
implementation of any part of it. The graphs read each random number from an input ``noise``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from worldmodel.agent import Agent
from worldmodel.checks import ConfigError
from worldmodel.export.normal import log_normal_cdf
from worldmodel.models.imagination import Imagination
from worldmodel.planners import (
    CEM,
    ICEM,
    MPPI,
    CategoricalCEM,
    Planner,
    PlannerSettings,
)
from worldmodel.scores import reward_rows
from worldmodel.structs import Latent, each, leaves, with_leaves

if TYPE_CHECKING:
    from onnx import ModelProto

PLANNERS = ("cem", "icem", "mppi")
"""Kinds of planners that draw normal numbers only, and need no gradient."""

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Graphs:
    """The graphs of an agent by name, and what their inputs mean.

    ``observe`` is for one robot, without a batch axis. The others have an axis of N candidates:
    ``imagine`` is one row of imagination (``imagine_drawn``: with noise), ``propose`` is one action
    of the policy, and ``score`` is the reward of all rows. The search itself is no graph: the
    runner calls these row by row, so that it can look at the clock.
    """

    models: Mapping[str, ModelProto]
    about: Mapping[str, Any]


def require_libraries() -> None:
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"export: {' and '.join(missing)} not installed; type: pip install {' '.join(missing)}"
        )


def require_exportable(agent: Agent) -> None:
    kind = _settings_of(agent).kind
    if kind not in PLANNERS:
        raise ConfigError(
            f"planner.kind: {kind} cannot be exported, only {', '.join(PLANNERS)} can; plan with"
            f" another on the same model: --planner {PLANNERS[-1]}"
        )
    if agent.planning.goal is not None:
        raise ConfigError(
            "planning.goal: an agent that plans to the goal images of its task cannot be exported;"
            " export one with planning.goal: none, and plan with score=runner.goal(image)"
        )
    if agent.planning.pessimism:
        raise ConfigError(
            "planning.pessimism: an agent that counts the disagreement of its ensemble cannot be"
            " exported; export one with planning.pessimism: 0.0"
        )
    if agent.can_mark:
        raise ConfigError(
            "model.dynamics.kind: an agent that plans for marked pixels cannot be exported, because"
            " scores of an export read features and no pictures; play it where torch is: worldmodel"
            " eval RUN --pixel ROW,COLUMN --to ROW,COLUMN"
        )


def record(agent: Agent) -> Graphs:
    """Record the graphs of an agent."""
    require_exportable(agent)
    belief, noise = agent.initial(), _noise_of(agent)
    models = {"observe": _record_observe(agent, belief, noise["observe"])}
    latents = each(belief, lambda part: part[None].repeat(2, *[1] * part.dim()))  # [2]
    inputs = {f"belief.{name}": part for name, part in leaves(latents).items()}
    action = torch.zeros(2, agent.action_size)
    imagined = (*inputs, "features")
    models["imagine"] = _to_onnx(
        _Imagine(agent, latents), {**inputs, "action": action}, imagined, has_candidates=True
    )
    if agent.planning.sampled:
        drawn = torch.zeros(2, agent.model.dynamics.noise_size)
        given = {**inputs, "action": action, "noise": drawn}
        models["imagine_drawn"] = _to_onnx(
            _Imagine(agent, latents), given, imagined, has_candidates=True
        )
    if agent.model.policy is not None:
        given = {**inputs, "noise": action}
        models["propose"] = _to_onnx(
            _Propose(agent, latents), given, ("action",), has_candidates=True
        )
    features = latents.features[:, None].repeat(1, agent.horizon, 1)  # [2, L, F]
    models["score"] = _to_onnx(
        _Score(agent), {"features": features}, ("rows",), has_candidates=True
    )
    return Graphs(models, _about(agent, belief, noise))


def _about(agent: Agent, belief: Latent, noise: Mapping[str, Tensor]) -> dict[str, Any]:
    spec, origin = agent.model.spec, agent.origin
    if origin is not None:  # without the folders of this machine
        origin = dataclasses.replace(origin, path=Path(origin.path).name)
    return {
        "spec": spec.to_dict(),
        "origin": None if origin is None else dataclasses.asdict(origin),
        "action_low": 0.0 if spec.has_choices else -1.0,
        "action_high": 1.0,
        "belief": {name: _constant(name, part) for name, part in leaves(belief).items()},
        "noise": {verb: len(drawn) for verb, drawn in noise.items()},
        "noise_size": agent.model.dynamics.noise_size,
        "planner": dataclasses.asdict(_settings_of(agent)),
        "planning": dataclasses.asdict(agent.planning),
        "search": _search_settings(agent.search),
        "free_search": _search_settings(agent.free_search),
    }


def _settings_of(agent: Agent) -> PlannerSettings:
    if agent.planner is None:
        raise ConfigError(
            "planner: none, so the policy acts, and only a search can be exported:"
            f" {', '.join(PLANNERS)}; play this agent where torch is, or, if its model has"
            " dynamics, export it with --planner mppi"
        )
    return agent.planner


def _search_settings(search: Planner | None) -> dict[str, Any]:
    if isinstance(search, CategoricalCEM):
        return {"kind": "categorical", **dataclasses.asdict(search)}
    if not isinstance(search, CEM | ICEM | MPPI):
        raise ConfigError(
            f"planner: expected one of {', '.join(PLANNERS)}, got a {type(search).__name__}, which"
            " the runner of an export does not have"
        )
    return dataclasses.asdict(search)


def _noise_of(agent: Agent) -> dict[str, Tensor]:
    """The normal numbers that each verb draws."""
    with Drawn() as to_observe:
        agent.observe(agent.initial(), agent.no_action(), _black(agent))
    with Drawn() as to_plan:
        agent.plan(agent.initial())
    return {"observe": to_observe.noise, "plan": to_plan.noise}


def _black(agent: Agent) -> dict[str, Tensor]:
    zeros = {name: torch.zeros(size) for name, size in agent.vector_sizes.items()}
    return {"image": torch.zeros(agent.image_shape, dtype=torch.uint8), **zeros}


def _record_observe(agent: Agent, belief: Latent, noise: Tensor) -> ModelProto:
    latent = {f"belief.{name}": part for name, part in leaves(belief).items()}
    image, *vectors = _black(agent).values()
    named = {f"vectors.{n}": part for n, part in zip(agent.vector_sizes, vectors, strict=True)}
    action = torch.from_numpy(agent.no_action())
    return _to_onnx(
        _Observe(agent, belief),
        {**latent, "action": action, "image": image, **named, "noise": noise},
        (*latent, "features"),
    )


class Drawn(TorchFunctionMode):
    """Record every normal number that the code draws, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[Tensor] = []

    @property
    def noise(self) -> Tensor:
        """[M]"""
        return torch.cat([torch.zeros(0), *(part.flatten() for part in self.parts)])

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        answer = func(*args, **(kwargs or {}))
        if _is_draw(func, kwargs):
            self.parts.append(answer.clone())
        return answer


class WithoutMissing(TorchFunctionMode):
    """Compute ``log_ndtr`` from other operators, because ONNX lacks it."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.special.log_ndtr:
            return log_normal_cdf(*args)
        return func(*args, **(kwargs or {}))


def _is_draw(func: Callable[..., Any], kwargs: Mapping[str, Any] | None) -> bool:
    if not kwargs or kwargs.get("generator") is None:
        return False
    if func is not Tensor.normal_:
        raise ConfigError(
            f"export: the planner draws with {getattr(func, '__name__', func)}; a graph can be"
            " given normal numbers only"
        )
    return True


class _Observe(nn.Module):
    """``agent.observe`` without its checks, which the runner makes."""

    def __init__(self, agent: Agent, belief: Latent) -> None:
        super().__init__()
        self.model = agent.model
        self.like = belief

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        rows = iter([part[None] for part in inputs])  # a batch of one, in the order of ``record``
        belief = with_leaves(self.like, rows)
        action, image, *parts, noise = rows
        vectors = dict(zip(self.model.spec.vectors, parts, strict=True))
        given = noise if noise.numel() else None
        seen = self.model.observe_step(belief, action, image, given, vectors)
        return *(part[0] for part in leaves(seen).values()), seen.features.float()[0]


class _Imagine(nn.Module):
    """One row of imagination: the next latents [N] and their features [N, F]."""

    def __init__(self, agent: Agent, latents: Latent) -> None:
        super().__init__()
        self.model = agent.model  # so that weights have the model's names
        self.like = latents

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        rows = iter(inputs)
        latents, action, noise = with_leaves(self.like, rows), next(rows), next(rows, None)
        dynamics = self.model.dynamics
        imagined = dynamics.imagine(dynamics.remember(latents, action), noise)
        return *leaves(imagined).values(), imagined.features.float()


class _Propose(nn.Module):
    """The policy's actions: latents [N], noise [N, A] -> [N, A]"""

    def __init__(self, agent: Agent, latents: Latent) -> None:
        super().__init__()
        self.model = agent.model
        self.like = latents

    def forward(self, *inputs: Tensor) -> Tensor:
        *parts, noise = inputs
        assert self.model.policy is not None
        with WithoutMissing():
            return self.model.policy.act(with_leaves(self.like, parts).features, noise)


class _Score(nn.Module):
    """The learned rewards: features [N, L, F] -> [N, L]"""

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self.model = agent.model
        # the model's own layers, because fast ones are specific to this machine's processor
        self.heads = Imagination(agent.model, None)
        self.discount_rate = agent.discount_rate

    def forward(self, features: Tensor) -> Tensor:
        return reward_rows(features, self.heads, self.discount_rate)


def _to_onnx(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    has_candidates: bool = False,
) -> ModelProto:
    """Record a module. ``has_candidates``: the first axis is N, any number of candidates."""
    import onnx
    from onnxscript import opset18

    # Translate operators that torch's exporter does not know. The functions have no type hints,
    # because the exporter would read them as types of ONNX.
    def frequencies(length, spacing=1.0, dtype=None, **rest):  # type: ignore[no-untyped-def]
        values = [k / (length * spacing) for k in range(length // 2 + 1)]
        return opset18.Constant(value_floats=values)

    def product(x, axes, dtype=None):  # type: ignore[no-untyped-def]
        return opset18.ReduceProd(x, opset18.Constant(value_ints=list(axes)), keepdims=0)

    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            tuple(
                tensor.clone() for tensor in inputs.values()
            ),  # cloned, because tensors that are the same object would become one input
            dynamo=True,
            dynamic_shapes=_any_number(module, inputs) if has_candidates else None,
            input_names=[f"in.{name}" for name in inputs],  # no symbol has a dot in its name
            output_names=[f"out.{name}" for name in outputs],
            custom_translation_table={
                torch.ops.aten.fft_rfftfreq.default: frequencies,
                torch.ops.prims.prod.default: product,
            },
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:  # without the source position of each node
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output):
        value.ClearField("metadata_props")
    model.graph.ClearField("value_info")
    model.graph.ClearField("metadata_props")
    model.ClearField("metadata_props")
    onnx.checker.check_model(model)
    return model


def _any_number(module: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Any, ...]:
    """The first axis of each input, as the exporter wants it said for the module's arguments."""
    axes = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
    return axes if isinstance(module, _Score) else (axes,)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's messages, which are for its developers."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _constant(name: str, part: Tensor) -> dict[str, Any]:
    """Describe a part of the initial belief, whose numbers must all be equal."""
    if part.min() != part.max():
        raise ConfigError(f"export: the first belief's {name} is not one number, repeated")
    return {"shape": list(part.shape), "initial": float(part.flatten()[0])}
