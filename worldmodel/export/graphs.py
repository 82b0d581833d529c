"""ONNX graphs of an agent, recorded while it observes and plans.

Torch's exporter runs the agent's own code once on symbolic tensors, so there is no second
implementation. The graph reads each random number from its input ``noise``; with the same numbers
its plan equals the agent's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from worldmodel.agent import Agent
from worldmodel.checks import ConfigError
from worldmodel.export.normal import log_normal_cdf
from worldmodel.models.imagination import Imagination
from worldmodel.structs import Latent, Plan, leaves, with_leaves

if TYPE_CHECKING:
    from onnx import ModelProto

PLANNERS = ("cem", "icem", "mppi")
"""Kinds of planners that draw normal numbers only, and need no gradient."""

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Graphs:
    """The graphs of ``observe`` and ``plan``, without a batch axis, and what their inputs mean."""

    observe: ModelProto  # belief, action, image, vectors, noise -> belief
    plan: ModelProto  # belief, previous, noise -> actions, value, elites
    about: Mapping[str, Any]


def require_libraries() -> None:
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"export: {' and '.join(missing)} not installed; type: pip install {' '.join(missing)}"
        )


def require_exportable(agent: Agent) -> None:
    kind = agent.planner.kind
    if kind not in PLANNERS:
        raise ConfigError(
            f"planner.kind: {kind} cannot be exported, only {', '.join(PLANNERS)} can; plan with"
            f" another on the same model: --planner {PLANNERS[-1]}"
        )


def record(agent: Agent) -> Graphs:
    """Record ``observe`` and ``plan``; a plan of 18 imagined rows takes a minute to record."""
    require_exportable(agent)
    spec = agent.model.spec
    belief, action = agent.initial(), agent.no_action()
    image = torch.zeros(spec.image, dtype=torch.uint8)
    vectors = {name: torch.zeros(size) for name, size in spec.vectors.items()}
    latent = {f"belief.{name}": part for name, part in leaves(belief).items()}
    with Drawn() as to_observe:
        agent.observe(belief, action, {"image": image, **vectors})
    with Drawn() as to_plan:
        plan = agent.plan(belief)
    seen = {"image": image, **{f"vectors.{name}": vector for name, vector in vectors.items()}}
    observe = _to_onnx(
        _Observe(agent, belief),
        {**latent, "action": torch.from_numpy(action), **seen, "noise": to_observe.noise},
        tuple(latent),
    )
    planned = _to_onnx(
        _Plan(agent, belief, plan),
        {**latent, "previous": torch.zeros_like(plan.actions), "noise": to_plan.noise},
        ("actions", "value", "elites"),
    )
    about = {
        "spec": spec.to_dict(),
        "action_low": 0.0 if spec.has_choices else -1.0,
        "action_high": 1.0,
        "belief": {name: _constant(name, part) for name, part in leaves(belief).items()},
        "noise": {"observe": len(to_observe.noise), "plan": len(to_plan.noise)},
        "planner": dataclasses.asdict(agent.planner),
        "planning": dataclasses.asdict(agent.planning),
    }
    return Graphs(observe, planned, about)


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


class Given(TorchFunctionMode):
    """Replace each normal number that the code draws by the next one of ``noise`` [M].

    Also compute ``log_ndtr`` from other operators, because ONNX lacks it.
    """

    def __init__(self, noise: Tensor) -> None:
        super().__init__()
        self.noise = noise
        self.used = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.special.log_ndtr:
            return log_normal_cdf(*args)
        if not _is_draw(func, kwargs):
            return func(*args, **(kwargs or {}))
        target: Tensor = args[0]
        begin, self.used = self.used, self.used + target.numel()
        return target.copy_(self.noise[begin : self.used].reshape(target.shape))


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
        return tuple(part[0] for part in leaves(seen).values())


class _Plan(nn.Module):
    def __init__(self, agent: Agent, belief: Latent, plan: Plan) -> None:
        super().__init__()
        self.model = agent.model  # so that weights have the model's names
        # the model's own layers, because fast ones are specific to this machine's processor
        self.agent = Agent(
            agent.model,
            agent.planner,
            agent.planning,
            agent.discount_rate,
            imagination=Imagination(agent.model, None),
        )
        self.like, self.example = belief, plan

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        *parts, previous, noise = inputs
        with Given(noise):
            plan = self.agent.plan(
                with_leaves(self.like, parts),
                previous=dataclasses.replace(self.example, actions=previous),
            )
        return plan.actions, plan.value, plan.elites


def _to_onnx(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> ModelProto:
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
