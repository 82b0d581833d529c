"""Settings: every one can be written in YAML, and every mistake is refused."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
import yaml

from tests.test_checks import Animal, Bell, Swim
from worldmodel.checks import ConfigError, hints, is_optional, kinds, options, read, sections
from worldmodel.compare_settings import changes, differences, settings_hash, unsaid
from worldmodel.config import Config
from worldmodel.models.dynamics.recurrent import RecurrentSettings
from worldmodel.models.settings import ModelSettings
from worldmodel.presets import load_preset, presets

# settings that are changed together or not at all
DETERMINISTIC: dict[str, Any] = {
    "model.dynamics.kind": "deterministic",
    "model.posterior.kind": "deterministic",
    "objective.kl": None,
    "objective.priority": None,
}
SMOOTHER = {"model.posterior.kind": "smoother", "objective.acting.weight": 1.5}
LINEAR = {"model.dynamics.kind": "locally_linear", "model.posterior.kind": "one_step"}
CONTRAST: dict[str, Any] = {"model.contrast.size": 9, "objective.contrastive.weight": 2.0}
ENSEMBLE: dict[str, Any] = {"model.ensemble.size": 3, "objective.ensemble.weight": 2.0}
STILL: dict[str, Any] = {"objective.kl": None, "objective.priority": None, "behaviour": None}
SCENE = {
    "model.dynamics.kind": "moving_kernels",
    "model.posterior.kind": "exact",
    "model.encoder.kind": "pixels",
    "model.decoder.kind": "itself",
    "model.mean_image": False,
    "objective.kl": None,
    "objective.priority": None,
}
ON_POLICY: dict[str, Any] = {
    "planner": None,
    "exploration.kind": "policy",
    "learner.average_rate": 1.0,
    "loop.seed_updates": 0,
    "loop.seed_actions": "uniform",
}
SOFT = {"model.policy.kind": "squashed"}
GREEDY = {"model.policy.kind": "greedy"}
TIMED = {"model.dynamics.kind": "fitted_linear", "model.posterior.kind": "one_step"}
TOGETHER: dict[str, dict[str, Any]] = {
    **{
        f"behaviour.{name} lqr": {**TIMED, "model.policy.kind": "time_varying"}
        for name in ("bound", "strength", "around")
    },
    **{
        f"model.policy.{name} time_varying": {**TIMED, "behaviour.kind": "lqr"}
        for name in ("rows", "initial_std")
    },
    **{
        f"behaviour.{name} soft": SOFT
        for name in (
            *("tunes_encoder", "layers", "size", "reward_scale", "first_temperature"),
            *("target_rate", "critic_rate", "policy_rate"),
        )
    },
    **{f"behaviour.{name} dqn": GREEDY for name in ("tunes_encoder", "target_rate", "rate")},
    "model.policy.layers greedy": {"behaviour.kind": "dqn"},
    "model.policy.size greedy": {"behaviour.kind": "dqn"},
    "behaviour.kind": SOFT,
    "model.dynamics.state_size fitted_linear": {"model.posterior.kind": "one_step"},
    "model.dynamics.min_std fitted_linear": {"model.posterior.kind": "one_step"},
    **{
        f"behaviour.{name} ppo": ON_POLICY
        for name in ("clip", "return_lambda", "entropy", "value_rate", "policy_rate")
    },
    "model.dynamics.state_size locally_linear": LINEAR,
    "model.dynamics.hidden_size locally_linear": LINEAR,
    "model.dynamics.min_std locally_linear": LINEAR,
    "objective.latent_kl.weight": LINEAR,
    "objective.latent_kl.first_weight": LINEAR,
    "objective.latent_kl.first_updates": {**LINEAR, "objective.latent_kl.first_weight": 1.5},
    "objective.masked_patches.weight": {"model.encoder.kind": "masked"},
    "objective.masked_patches.share": {"model.encoder.kind": "masked"},
    "model.posterior.hidden_size deterministic": DETERMINISTIC,
    "model.dynamics.size deterministic": DETERMINISTIC,
    "model.dynamics.hidden_size deterministic": DETERMINISTIC,
    "objective.consistency.weight": DETERMINISTIC,
    "objective.acting.weight": {"model.posterior.kind": "smoother"},
    "model.posterior.hidden_size smoother": SMOOTHER,
    "model.posterior.future_size smoother": SMOOTHER,
    "model.posterior.acting_filter smoother": {"model.posterior.kind": "smoother"},
    "model.policy": {"model.value": None, "behaviour": None},
    "model.value": {"model.policy": None, "behaviour": None},
    "model.discount": {"objective.discount": None},
    "model.reward": {"objective.reward": None, "behaviour": None},
    "objective.kl": {"objective.priority": None},
    "model.dynamics.latent none": {**STILL, "model.posterior.kind": "deterministic"},
    "model.dynamics.size none": STILL,
    "model.dynamics.min_std none": STILL,
    "model.dynamics.kernels moving_kernels": SCENE,
    "model.dynamics.reach moving_kernels": SCENE,
    "model.dynamics.memory_size moving_kernels": SCENE,
    "model.decoder": {"objective.image": None},
    "model.contrast.size": CONTRAST,
    "model.contrast.hidden_size": CONTRAST,
    "model.contrast.target_rate": CONTRAST,
    "objective.contrastive.weight": CONTRAST,
    "objective.contrastive.temperature": CONTRAST,
    "model.ensemble.size": ENSEMBLE,
    "model.ensemble.hidden_size": ENSEMBLE,
    "objective.ensemble.weight": ENSEMBLE,
    "planning.pessimism": ENSEMBLE,
    "exploration.curiosity": ENSEMBLE,
    "exploration.kind": {"planner": None, "loop.seed_actions": "uniform"},
}


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A single setting, and the kind of its part that has this setting."""

    path: str
    hint: Any
    value: Any
    kind: dict[str, str] = dataclasses.field(default_factory=dict)  # path -> kind

    @property
    def name(self) -> str:
        return " ".join([self.path, *self.kind.values()])


def leaves(part: Any, path: str = "", kind: dict[str, str] | None = None) -> Iterator[Leaf]:
    """Every single setting, including those of kinds that are not the default's."""
    declared = hints(type(part))
    for f in dataclasses.fields(part):
        where, hint, value = f"{path}{f.name}", declared[f.name], getattr(part, f.name)
        variants = sections(hint)
        if f.name == "kind" and len(kinds(type(part))) == 1:
            continue  # said by the part that holds it
        if not variants:
            yield Leaf(where, options(hint)[0], value, kind or {})
        elif is_optional(hint) and value is not None:
            yield Leaf(where, Literal[None], value, kind or {})
        known = [name for variant in variants for name in kinds(variant)]
        if len(known) > 1 and len(variants) > 1:
            yield Leaf(f"{where}.kind", Literal[*known], getattr(value, "kind", None), kind or {})
        for variant in variants:
            own = isinstance(value, variant)
            here = {} if own or not kinds(variant) else {f"{where}.kind": kinds(variant)[0]}
            yield from leaves(value if own else variant(), f"{where}.", {**(kind or {}), **here})


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """``{"a.b": 1}`` -> ``{"a": {"b": 1}}``"""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *sections, name = path.split(".")
        part = tree
        for section in sections:
            part = part.setdefault(section, {})
        part[name] = value
    return tree


def others(kind: Any, value: Any) -> list[Any]:
    """Values of a type other than ``value``; some of them may break a bound."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType) and value is not None:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is typing.Literal:
        return [option for option in typing.get_args(kind) if option != value]
    if value is None:
        return [3]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, str):
        return ["toy"]
    if isinstance(value, tuple):
        return [(0, 1)]
    if isinstance(value, int):
        return [value + 1, value - 1, 2 * value]
    return [other for other in (value / 2, value + 0.25) if other != value]


def another(leaf: Leaf) -> dict[str, Any]:
    """The smallest possible change of one setting."""
    for other in others(leaf.hint, leaf.value):
        together = TOGETHER.get(leaf.name, TOGETHER.get(leaf.path, {}))
        change = {**leaf.kind, **together, leaf.path: other}
        try:
            read(Config(), nested(change))
        except ConfigError:
            continue
        return change
    raise AssertionError(f"{leaf.name}: a knob with one legal value is a constant")


LEAVES = {leaf.name: leaf for leaf in leaves(Config())}
CHANGES = {name: another(leaf) for name, leaf in LEAVES.items()}


def value_at(config: Config, path: str) -> Any:
    """None where the part is absent, or of a kind without this setting."""
    part: Any = dataclasses.asdict(config)
    for name in path.split("."):
        part = None if part is None else part.get(name)
    return part


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_can_be_written_in_yaml(name: str, tmp_path: Path) -> None:
    file, path, change = tmp_path / "preset.yaml", LEAVES[name].path, CHANGES[name]
    file.write_text(yaml.safe_dump(nested(change)))
    config = load_preset(str(file))
    assert value_at(config, path) == change[path] != value_at(Config(), path)
    named = {line.split(":")[0] for line in differences(Config(), config)}
    # of a section that is absent in the defaults all settings are named
    absent = {p for p in named if value_at(Config(), p.rpartition(".")[0]) is None and "." in p}
    assert change.keys() <= named <= change.keys() | absent


@pytest.mark.parametrize("name", CHANGES)
def test_the_hash_knows_every_setting_but_seed_and_task(name: str) -> None:
    config = read(Config(), nested(CHANGES[name]))
    same = settings_hash(config) == settings_hash(Config())
    assert same == (name in ("seed", "task"))


def test_differences_say_where_and_what() -> None:
    old = Config()
    new = read(old, {"planner": {"horizon": 7}, "seed": 3})
    assert differences(old, old) == []
    assert differences(old, new) == ["seed: 0 -> 3", f"planner.horizon: {old.planner.horizon} -> 7"]


def test_settings_that_were_not_written_down_are_named() -> None:
    written = dataclasses.asdict(Config())
    assert unsaid(Config(), written) == []
    del written["planner"]["horizon"], written["replay"], written["seed"]
    default = Config()
    replay = dataclasses.asdict(default)["replay"]
    assert unsaid(default, written) == [
        "seed: 0",
        *(f"replay.{name}: {value}" for name, value in replay.items()),
        f"planner.horizon: {default.planner.horizon}",
    ]


def test_a_short_exponent_is_a_number(tmp_path: Path) -> None:
    file = tmp_path / "preset.yaml"
    file.write_text("learner: {model_rate: 1e-3}\n")
    assert isinstance(yaml.safe_load(file.read_text())["learner"]["model_rate"], str)
    assert load_preset(str(file)).learner.model_rate == 0.001


def test_what_yaml_writes_is_what_was_meant() -> None:
    config = load_preset("planet")
    assert read(Config(), yaml.safe_load(yaml.safe_dump(dataclasses.asdict(config)))) == config


def test_planet_has_no_part_that_was_published_after_it() -> None:
    config = load_preset("planet")
    learner = config.learner
    assert (config.replay.tournament, learner.decay_after, learner.average_rate) == (1, None, 1.0)
    assert (config.model.value, config.planning.warm_start) == (None, False)


@pytest.mark.parametrize(
    ("said", "answers"),
    [
        ({"planner": {"horizn": 3}}, ["planner.horizn: no such setting", "planner.horizon"]),
        ({"planer": {"horizon": 3}}, ["planer: no such setting", "planner"]),
        ({"model": {"reward": {"sise": 3}}}, ["model.reward.sise", "model.reward.size"]),
        ({"zzz": 1}, ["zzz: no such setting", "known: ", "planner"]),
        (
            {"planner": {"horizon": "three"}},
            ["expected a whole number", "'three'"],
        ),
        ({"planner": {"horizon": 2.5}}, ["planner.horizon: expected a whole number", "2.5"]),
        ({"planner": {"horizon": True}}, ["planner.horizon: expected a whole number", "True"]),
        ({"planning": {"warm_start": 1}}, ["planning.warm_start: expected true or false", "1"]),
        ({"planner": {"temperature": "hot"}}, ["planner.temperature: expected a number", "'hot'"]),
        ({"planner": {"kind": "cemm"}}, ["planner.kind: expected one of cem", "'cemm'"]),
        ({"planner": 3}, ["planner: expected a section", "int"]),
        ({"task": 3}, ["task: expected text", "3"]),
        (
            {"env": {"action_repeat": "x"}},
            ["env.action_repeat: expected a whole number, or none"],
        ),
        ({"planner": {"horizon": 0}}, ["planner.horizon: expected 1 or more, got 0"]),
        (
            {"planner": {"candidates": 5, "elites": 10}, "planning": {"proposals": 0}},
            [
                "planner.elites: expected at most planner.candidates = 5, got 10",
                "--planner.candidates 5 --planner.elites 1",
            ],
        ),
        (
            {"planner": {"candidates": 16}},
            [
                "planning.proposals: expected fewer than planner.candidates = 16, got 16",
                "--planner.candidates 16 --planning.proposals 4",
            ],
        ),
        (
            {"planner": {"min_std": 0.2}, "planning": {"std_without_policy": 0.15}},
            ["planning.std_without_policy: expected at least planner.min_std", "0.15"],
        ),
        ({"planner": {"initial_std": 0.05}}, ["planner.min_std: expected at most", "0.05"]),
        (
            {"planner": {"kind": "cem", "temperature": 1}},
            ["planner.temperature: a setting of mppi, and planner.kind is cem"],
        ),
        (
            {"planner": {"kept_share": 0.5}},
            ["planner.kept_share: renamed; write planner.elites_kept"],
        ),
        ({"objective": {"image": 1.0}}, ["objective.image: renamed; write objective.image.weight"]),
        ({"planner": {"proposals": 3}}, ["planner.proposals: renamed; write planning.proposals"]),
        ({"env": {"image_size": 50}}, ["env.image_size", "multiple of 16", "50"]),
        ({"model": {"encoder": {"kind": "planet"}}, "env": {"image_size": 128}}, ["64", "128"]),
        ({"model": {"policy": {"kind": "none"}}}, ["model.policy.kind", "write model.value: none"]),
        ({"model": {"reward": {"kind": "bernoulli"}}}, ["model.reward.kind", "twohot"]),
        ({"learner": {"model_rate": float("nan")}}, ["learner.model_rate", "finite", "nan"]),
        ({"discount_rate": 1.5}, ["discount_rate", "at most 1", "1.5"]),
        ({"seed": -1}, ["seed: expected 0 or more, got -1"]),
    ],
    ids=str,
)
def test_a_mistake_is_answered_with_its_path(
    said: dict[str, Any], answers: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(said))
    with pytest.raises(ConfigError) as raised:
        load_preset(str(file))
    for answer in [str(file), *answers]:
        assert answer in str(raised.value)


@pytest.mark.parametrize("text", ["planner: {horizon: 3", "- a list\n", "just words\n"])
def test_a_preset_that_is_no_mapping_is_an_error(text: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        load_preset(str(file))


def test_an_empty_preset_is_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("")
    assert load_preset(str(file)) == Config()


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no preset plannet; did you mean planet\?"):
        load_preset("plannet")
    with pytest.raises(ConfigError, match=r"no file mine\.yaml"):
        load_preset("mine.yaml")


def test_a_preset_says_only_what_differs() -> None:
    for name, path in presets().items():
        for key in yaml.safe_load(path.read_text()) or {}:
            assert key in dataclasses.asdict(Config()), f"{name}: {key}"


def test_another_kind_is_a_difference_of_its_own() -> None:
    whole, part = Animal(), Animal(moves=Swim(depth=2.0), collar=None)
    assert list(changes(whole, part)) == [
        ("moves.kind", "walk", "swim"),
        ("moves.depth", 1.0, 2.0),
        ("collar", Bell(loud=True), None),
    ]
    assert [path for path, _, _ in changes(part, whole)] == [
        "moves.kind",
        "moves.pace",
        "collar.loud",
    ]


@dataclasses.dataclass(frozen=True)
class Flow:
    """A term of nobody's: it needs what no dynamics of the package offer."""

    needs: ClassVar[frozenset[str]] = frozenset({"flow"})

    def __call__(self, model: Any, seen: Any, random: Any) -> dict[str, torch.Tensor]:
        return {}


@dataclasses.dataclass(frozen=True)
class Flowing:
    flow: Flow = Flow()
    priority: str | None = None


@dataclasses.dataclass(frozen=True)
class Swirls(RecurrentSettings):
    latent: ClassVar[str] = "swirl"
    offers: ClassVar[frozenset[str]] = frozenset({"flow"})


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ({"discount": "none"}, "discount: needs head:discount, and model.discount is none"),
        ({"reward": "none"}, "reward: needs head:reward, and model.reward is none"),
    ],
    ids=["discount", "reward"],
)
def test_a_term_without_what_it_needs_is_refused(said: dict[str, Any], answer: str) -> None:
    term = answer.split(":")[0]
    with pytest.raises(ConfigError) as raised:
        read(Config(), {"model": said})
    assert str(raised.value) == f"objective.{answer}; write objective.{term}: none"


def test_a_need_of_an_own_term_is_met_by_dynamics_that_offer_it() -> None:
    objective: Any = Flowing()
    with pytest.raises(ConfigError) as raised:
        Config(objective=objective)
    assert str(raised.value) == (
        "objective.flow: needs flow, and model.dynamics.kind is recurrent; write"
        " objective.flow: none"
    )
    with pytest.raises(ConfigError) as raised:
        Config(model=ModelSettings(dynamics=Swirls()), objective=objective)
    assert str(raised.value) == (
        "model.posterior.kind: filter gives the numbers of latents that are gaussian or remembered;"
        " those of model.dynamics.kind = recurrent are swirl"
    )


@dataclasses.dataclass(frozen=True)
class Needless:
    def __call__(self, model: Any, seen: Any, random: Any) -> dict[str, torch.Tensor]:
        return {}


@dataclasses.dataclass(frozen=True)
class WithoutNeeds:
    mine: Needless = Needless()
    priority: str | None = None


def test_what_is_no_term_is_not_left_out_in_silence() -> None:
    objective: Any = WithoutNeeds()
    with pytest.raises(ConfigError) as raised:
        Config(objective=objective)
    assert str(raised.value) == "objective.mine: Needless is no term: it has no needs"
