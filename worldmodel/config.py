"""Every setting, with its only default, and the strict reading of presets.

Defaults live in these frozen dataclasses; a preset (a YAML file in ``configs/``) says only what
differs; the command line overrides one by one. An unknown name, a wrong type or an impossible
value is a ``ConfigError`` that names the path and the nearest known name.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

T = TypeVar("T")


class ConfigError(ValueError):
    """A setting that cannot be; the message says which, what was expected and what came."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True)
class EnvConfig:
    """What the camera sees and how long an action lasts."""

    camera: int = 0
    image_size: int = 64
    action_repeat: int | None = None  # None: the task's own (`worldmodel tasks` lists them)
    frames: int = 1  # images stacked in the channel axis
    renderer: Literal["auto", "warp", "gl"] = "auto"
    samples: int = 1  # warp: n means n x n rays a pixel
    vectors: bool = False  # beside the image, what the simulator's own sensors say

    def check(self, path: str) -> None:
        require(self.camera >= 0, f"{path}.camera: expected 0 or more, got {self.camera}")
        require(self.image_size >= 8, f"{path}.image_size: expected >= 8, got {self.image_size}")
        require(
            self.action_repeat is None or self.action_repeat >= 1,
            f"{path}.action_repeat: expected 1 or more, got {self.action_repeat}",
        )
        require(self.frames >= 1, f"{path}.frames: expected 1 or more, got {self.frames}")
        require(1 <= self.samples <= 8, f"{path}.samples: expected 1 to 8, got {self.samples}")


@dataclass(frozen=True)
class ReplayConfig:
    """Where experience waits, and the windows that leave it."""

    batch: int = 24  # windows in a batch
    length: int = 12  # rows in a window
    draws: int = 2  # windows drawn for each in a batch: the one that surprised most is learned from
    memory_gb: float = 4.0  # the oldest episodes leave memory (never the disk) beyond this
    disk_share: float = 0.5  # a run stops rather than take more of the free disk than this

    def check(self, path: str) -> None:
        require(self.batch >= 1, f"{path}.batch: expected 1 or more, got {self.batch}")
        require(self.length >= 2, f"{path}.length: expected 2 or more, got {self.length}")
        require(self.draws >= 1, f"{path}.draws: expected 1 or more, got {self.draws}")
        require(self.memory_gb > 0, f"{path}.memory_gb: expected more than 0, got {self.memory_gb}")
        require(
            0 < self.disk_share <= 1,
            f"{path}.disk_share: expected more than 0, at most 1, got {self.disk_share}",
        )


@dataclass(frozen=True)
class EncoderConfig:
    kind: Literal["slim", "patch", "planet"] = "patch"
    width: int = 16  # the unit of its layers' widths

    def check(self, path: str) -> None:
        require(self.width >= 1, f"{path}.width: expected 1 or more, got {self.width}")


@dataclass(frozen=True)
class DecoderConfig:
    kind: Literal["slim", "planet"] = "slim"
    width: int = 16  # of its last layer but one; the others double it

    def check(self, path: str) -> None:
        require(self.width >= 1, f"{path}.width: expected 1 or more, got {self.width}")


@dataclass(frozen=True)
class DynamicsConfig:
    layers: Literal["normed", "plain"] = "normed"  # LayerNorm and SiLU, or PlaNet's bare ReLU
    deter_size: int = 256
    stoch_size: int = 32
    hidden_size: int = 256
    min_std: float = 0.1

    def check(self, path: str) -> None:
        for name in ("deter_size", "stoch_size", "hidden_size"):
            value = getattr(self, name)
            require(value >= 1, f"{path}.{name}: expected 1 or more, got {value}")
        require(self.min_std > 0, f"{path}.min_std: expected more than 0, got {self.min_std}")


@dataclass(frozen=True)
class HeadConfig:
    """A small network on the features: ``kind`` is the distribution that it predicts."""

    kind: Literal["twohot", "normal", "bernoulli", "tanh_normal", "none"]
    layers: int = 2
    size: int = 256

    def check(self, path: str) -> None:
        require(self.layers >= 1, f"{path}.layers: expected 1 or more, got {self.layers}")
        require(self.size >= 1, f"{path}.size: expected 1 or more, got {self.size}")


@dataclass(frozen=True)
class ModelConfig:
    encoder: EncoderConfig = EncoderConfig()
    encoder_gain: float = 3.0  # of its first weights, over PyTorch's own
    decoder: DecoderConfig = DecoderConfig()
    dynamics: DynamicsConfig = DynamicsConfig()
    reward: HeadConfig = HeadConfig("twohot")
    discount: HeadConfig = HeadConfig("bernoulli", layers=1)
    value: HeadConfig = HeadConfig("twohot")
    policy: HeadConfig = HeadConfig("tanh_normal")
    image_bits: int = 8  # PlaNet: 5, with uniform noise inside a bin
    mean_image: bool = True  # draw the difference from the seed episodes' mean image

    def check(self, path: str) -> None:
        allowed = {
            "reward": ("twohot", "normal"),
            "discount": ("bernoulli", "none"),
            "value": ("twohot", "normal", "none"),
            "policy": ("tanh_normal", "none"),
        }
        for name, kinds in allowed.items():
            kind = getattr(self, name).kind
            require(
                kind in kinds, f"{path}.{name}.kind: expected one of {', '.join(kinds)}; got {kind}"
            )
        require(
            (self.value.kind == "none") == (self.policy.kind == "none"),
            f"{path}.policy.kind: value and policy are learned together; set both to none or"
            f" neither (value is {self.value.kind}, policy is {self.policy.kind})",
        )
        require(
            self.encoder_gain > 0,
            f"{path}.encoder_gain: expected more than 0, got {self.encoder_gain}",
        )
        require(
            1 <= self.image_bits <= 8,
            f"{path}.image_bits: expected 1 to 8, got {self.image_bits}",
        )


@dataclass(frozen=True)
class ObjectiveConfig:
    """The weights of the bound that trains the world model."""

    image: float = 1.0
    # The image's error is scaled up (models/pixels.py), so what must be learned beside it is too:
    # with 1 for both reward and kl_dynamics, 800 updates left twice the reward's error, and the
    # prediction 5 steps ahead was a tenth worse (assets/model_trials.csv: one seed).
    reward: float = 10.0
    vectors: float = 10.0  # as the reward; not studied
    discount: float = 1.0
    kl_dynamics: float = 5.0  # pulls the prior to the posterior
    kl_representation: float = 0.3  # pulls the posterior to the prior
    free_nats: float = 1.0
    decoded_share: float = 0.125  # of the rows, drawn anew for each update: the decoder's cost

    def check(self, path: str) -> None:
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            require(value >= 0, f"{path}.{f.name}: expected 0 or more, got {value}")
        require(
            0 < self.decoded_share <= 1,
            f"{path}.decoded_share: expected more than 0, at most 1, got {self.decoded_share}",
        )


@dataclass(frozen=True)
class ImaginationConfig:
    """How value and policy are learned from imagined returns."""

    starts: int = 96  # posterior rows of the batch that imagination starts from
    horizon: int = 5
    trace: float = 0.95  # lambda of the returns
    entropy: float = 1e-3
    strain: float = 0.1  # weight of what keeps a policy from being too sure (models/policy.py)
    target_rate: float = 0.1  # how fast the slow value follows

    def check(self, path: str) -> None:
        require(self.starts >= 1, f"{path}.starts: expected 1 or more, got {self.starts}")
        require(self.horizon >= 1, f"{path}.horizon: expected 1 or more, got {self.horizon}")
        require(0 <= self.trace <= 1, f"{path}.trace: expected 0 to 1, got {self.trace}")
        require(self.entropy >= 0, f"{path}.entropy: expected 0 or more, got {self.entropy}")
        require(self.strain >= 0, f"{path}.strain: expected 0 or more, got {self.strain}")
        require(
            0 < self.target_rate <= 1,
            f"{path}.target_rate: expected more than 0, at most 1, got {self.target_rate}",
        )


@dataclass(frozen=True)
class LearnerConfig:
    model_rate: float = 8e-4
    value_rate: float = 1e-3
    policy_rate: float = 3e-4
    # From here on the rates fall, as one over the root of the number of updates; None: never.
    settle: int | None = 1500
    epsilon: float = 1e-5
    clip: float = 100.0  # of the gradient's norm, for each of the three separately
    averaging: float = 0.01  # how fast the weights that act follow the learned ones; 1: the same
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def check(self, path: str) -> None:
        for name in ("model_rate", "value_rate", "policy_rate", "epsilon", "clip"):
            value = getattr(self, name)
            require(value > 0, f"{path}.{name}: expected more than 0, got {value}")
        require(
            self.settle is None or self.settle >= 1,
            f"{path}.settle: expected 1 or more, or none, got {self.settle}",
        )
        require(
            0 < self.averaging <= 1,
            f"{path}.averaging: expected more than 0, at most 1, got {self.averaging}",
        )


@dataclass(frozen=True)
class PlannerConfig:
    # cem and mppi: over choices, both are the categorical cross-entropy method
    kind: Literal["cem", "icem", "mppi", "shooting", "gradient"] = "mppi"
    horizon: int = 6
    iterations: int = 3
    candidates: int = 64  # proposals included
    elites: int = 16
    proposals: int = 16  # candidates that the policy draws
    max_std: float = 0.3  # where the search begins beside what the policy proposes
    free_std: float = 1.0  # the same where no policy proposes, or for a score that it never learned
    min_std: float = 0.1  # mppi
    temperature: float = 0.5  # mppi: how sharply returns weigh the elites, in the score's own unit
    noise_exponent: float = 2.0  # icem: 0 is white noise
    kept_share: float = 0.3  # icem: of the elites, competing again in the next iteration
    decay: float = 0.8  # icem: the candidates of an iteration over those of the one before
    momentum: float = 0.1  # icem: of the mean
    rate: float = 0.1  # gradient: about one step, in the actions' own unit
    warm_start: bool = True  # begin at the last plan, one step later
    sampled: bool = False  # believe and imagine by draws, as PlaNet does, not by means
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # that candidates are imagined in

    def check(self, path: str) -> None:
        for name in ("horizon", "iterations", "candidates", "elites"):
            value = getattr(self, name)
            require(value >= 1, f"{path}.{name}: expected 1 or more, got {value}")
        require(
            self.elites <= self.candidates,
            f"{path}.elites: expected at most {path}.candidates = {self.candidates},"
            f" got {self.elites}",
        )
        require(
            0 <= self.proposals < self.candidates,
            f"{path}.proposals: expected 0 or more and fewer than {path}.candidates ="
            f" {self.candidates}, got {self.proposals}",
        )
        require(
            self.temperature > 0,
            f"{path}.temperature: expected more than 0, got {self.temperature}",
        )
        require(
            0 < self.min_std <= self.max_std,
            f"{path}.min_std: expected more than 0 and at most {path}.max_std = {self.max_std},"
            f" got {self.min_std}",
        )
        require(
            self.free_std >= self.min_std,
            f"{path}.free_std: expected at least {path}.min_std = {self.min_std},"
            f" got {self.free_std}",
        )
        for name, low, high in (("kept_share", 0, 1), ("momentum", 0, 1), ("decay", 0.01, 1)):
            value = getattr(self, name)
            require(low <= value <= high, f"{path}.{name}: expected {low} to {high}, got {value}")
        require(
            self.noise_exponent >= 0,
            f"{path}.noise_exponent: expected 0 or more, got {self.noise_exponent}",
        )
        require(self.rate > 0, f"{path}.rate: expected more than 0, got {self.rate}")


UPDATES_PER_ROW = 0.6  # where loop.updates is None


@dataclass(frozen=True)
class LoopConfig:
    seed_episodes: int = 5
    seed_updates: int = 200  # learned from the seed episodes before the planner acts
    # For each 1000 simulator steps collected; None: 0.6 for each row, so that a task whose actions
    # last two steps learns twice as often as one where they last four.
    updates: float | None = None
    together: int = 1  # episodes collected in step, planned for at once, with the same weights
    seed_actions: Literal["wander", "uniform"] = "wander"  # that noise alone, or fresh at each row
    # Standard deviation added to the planned action while collecting; where the action is one of
    # several choices, the probability that it is drawn at random instead.
    noise: float = 0.3
    # How much of the noise survives a row. White noise averages out before anything moves: over 25
    # random episodes of ball_in_cup_catch it scored 21, this 102; on finger_spin 1 against 7.
    noise_memory: float = 0.8
    # How far its size wanders: a standard deviation of the logarithm. Around a policy that has
    # settled small noise finds nothing new: walker_stand sat (assets/walker_stand_noise.csv).
    noise_swell: float = 1.0
    evaluate_every: int = 10_000  # simulator steps
    evaluate_episodes: int = 5
    # The collecting process hangs if it gives no row for so long, and is replaced. A first start
    # that compiles a renderer takes a minute on a slow machine.
    patience_s: float = 300.0

    def check(self, path: str) -> None:
        for name in ("seed_episodes", "together", "evaluate_every", "evaluate_episodes"):
            value = getattr(self, name)
            require(value >= 1, f"{path}.{name}: expected 1 or more, got {value}")
        require(self.seed_updates >= 0, f"{path}.seed_updates: expected 0 or more")
        require(
            self.updates is None or self.updates > 0,
            f"{path}.updates: expected more than 0, got {self.updates}",
        )
        require(
            self.patience_s > 0, f"{path}.patience_s: expected more than 0, got {self.patience_s}"
        )
        require(self.noise >= 0, f"{path}.noise: expected 0 or more, got {self.noise}")
        require(
            self.noise_swell >= 0,
            f"{path}.noise_swell: expected 0 or more, got {self.noise_swell}",
        )
        require(
            0 <= self.noise_memory < 1,
            f"{path}.noise_memory: expected 0 or more, less than 1, got {self.noise_memory}",
        )


@dataclass(frozen=True)
class Config:
    task: str = "cartpole_swingup"
    seed: int = 0
    discount_rate: float = 0.99  # of a reward one row later
    env: EnvConfig = EnvConfig()
    replay: ReplayConfig = ReplayConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    imagination: ImaginationConfig = ImaginationConfig()
    learner: LearnerConfig = LearnerConfig()
    planner: PlannerConfig = PlannerConfig()
    loop: LoopConfig = LoopConfig()

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if dataclasses.is_dataclass(value):
                _check_tree(value, f.name)
        require(
            0 < self.discount_rate <= 1,
            f"discount_rate: expected more than 0, at most 1, got {self.discount_rate}",
        )
        require(self.seed >= 0, f"seed: expected 0 or more, got {self.seed}")
        size = self.env.image_size
        for part in ("encoder", "decoder"):
            kind = getattr(self.model, part).kind
            fits = size == 64 if kind == "planet" else size % 16 == 0
            takes = "64" if kind == "planet" else "a multiple of 16"
            require(fits, f"env.image_size: the {kind} {part} takes {takes}, got {size}")


def _check_tree(part: Any, path: str) -> None:
    for f in dataclasses.fields(part):
        value = getattr(part, f.name)
        if dataclasses.is_dataclass(value):
            _check_tree(value, f"{path}.{f.name}")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{path}.{f.name}: expected a finite number, got {value}")
    if hasattr(part, "check"):
        part.check(path)


def nearest(name: str, known: Sequence[str]) -> str:
    """``; did you mean x?`` where something is near, else the whole list."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.55)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(sorted(known))}"


def read(base: T, differences: Mapping[str, Any], path: str = "") -> T:
    """``base`` with the differences of a preset, strictly."""
    known = {f.name: f for f in dataclasses.fields(base)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(type(base))
    changes: dict[str, Any] = {}
    for name, value in differences.items():
        where = f"{path}{name}"
        if name not in known:
            raise ConfigError(f"{where}: no such setting{_nearest_path(path, str(name), known)}")
        current = getattr(base, name)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"{where}: expected a section of settings, got {type(value).__name__} {value!r}"
                )
            changes[name] = read(current, value, f"{where}.")
        else:
            changes[name] = _convert(value, hints[name], where)
    return dataclasses.replace(base, **changes)  # type: ignore[type-var]


def _nearest_path(path: str, name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.55)
    if close:
        return f"; did you mean {path}{close[0]}?"
    return f"; known: {', '.join(sorted(known))}"


def _convert(value: Any, kind: Any, where: str) -> Any:
    """By declared type: YAML reads 1e-3 as text, and 1 where 1.0 is meant."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        options = typing.get_args(kind)
        if value not in options:
            raise ConfigError(
                f"{where}: expected one of {', '.join(map(str, options))}; got {value!r}"
            )
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        inner = next(option for option in typing.get_args(kind) if option is not type(None))
        return _convert(value, inner, where)
    if kind is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    elif kind is int and isinstance(value, (int, float)) and not isinstance(value, bool):
        if float(value).is_integer():
            return int(value)
    elif (kind is str and isinstance(value, str)) or (kind is bool and isinstance(value, bool)):
        return value
    raise ConfigError(
        f"{where}: expected {getattr(kind, '__name__', kind)}, got {type(value).__name__} {value!r}"
    )


def presets() -> dict[str, Path]:
    """Every shipped preset, by name."""
    inside = Path(__file__).parent / "configs"  # an installed package
    folder = inside if inside.is_dir() else Path(__file__).parents[1] / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_preset(name: str) -> Config:
    """A shipped preset by name, or a YAML file by path."""
    shipped = presets()
    if name in shipped:
        path = shipped[name]
    elif name.endswith((".yaml", ".yml")) or "/" in name:
        path = Path(name)
        require(path.is_file(), f"preset: no file {name}")
    else:
        raise ConfigError(f"preset: no preset {name}{nearest(name, list(shipped))}")
    return load_yaml(path)


def load_yaml(path: Path) -> Config:
    try:
        differences = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from error
    require(isinstance(differences, Mapping), f"{path}: expected a mapping of settings")
    try:
        return read(Config(), differences)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def to_dict(config: Config) -> dict[str, Any]:
    return dataclasses.asdict(config)


def shared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What runs with the same settings share: all but task and seed."""
    return {name: value for name, value in settings.items() if name not in ("task", "seed")}


def settings_hash(config: Config) -> str:
    """Twelve letters that change when any setting but the seed and the task does."""
    text = json.dumps(shared(to_dict(config)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(old: Config, new: Config) -> list[str]:
    """``path: old -> new`` for every setting that differs."""

    def walk(a: Mapping[str, Any], b: Mapping[str, Any], path: str) -> list[str]:
        rows: list[str] = []
        for name in a:
            where = f"{path}{name}"
            if isinstance(a[name], Mapping):
                rows += walk(a[name], b[name], f"{where}.")
            elif a[name] != b[name]:
                rows.append(f"{where}: {a[name]} -> {b[name]}")
        return rows

    return walk(to_dict(old), to_dict(new), "")


def unsaid(config: Config, written: Mapping[str, Any]) -> list[str]:
    """``path: value`` for every setting that was not written down and so took today's default."""

    def walk(settings: Mapping[str, Any], written: Mapping[str, Any], path: str) -> list[str]:
        rows: list[str] = []
        for name, value in settings.items():
            where = f"{path}{name}"
            if isinstance(value, Mapping):
                rows += walk(value, written.get(name, {}), f"{where}.")
            elif name not in written:
                rows.append(f"{where}: {value}")
        return rows

    return walk(to_dict(config), written, "")
