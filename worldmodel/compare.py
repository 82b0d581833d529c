"""Compare the learning curves of several runs with published scores: a table, a CSV, a picture.

::

    curves = [*read_scores(Path("assets/scores")), *more]
    groups = group(curves)               # one group for the seeds of each setting
    figure = plot_groups(groups)

A *curve* is one seed of one setting on one task; the seeds of one setting make a *group*. Scores
come from run folders or from files with the columns task, seed, env_steps, wall_clock_s and return.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from worldmodel import files
from worldmodel.checks import ConfigError
from worldmodel.compare_settings import settings_hash, shared
from worldmodel.config import Config
from worldmodel.log import EVALUATIONS, Evaluation, read_evaluations
from worldmodel.published import best, published, shown
from worldmodel.report.figures import draw_published, name_axes, panels
from worldmodel.report.palette import SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHORT = 10_000  # steps: below, thousands would need decimals
COLUMNS = ("task", "seed", "env_steps", "wall_clock_s", "return")
SCORE = "score ± std of seeds"
HEADER = """\
# learning curves over seeds: mean, lowest and highest of the seeds' mean returns at each step
# env_steps: simulator steps collected for training, action repeat included
"""

Curve64 = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """The learning curve of one seed: its evaluations."""

    name: str  # of the setting; all seeds of a setting have the same name
    task: str
    seed: int
    evaluations: Sequence[Evaluation]  # by rising env_steps

    @property
    def env_steps(self) -> Curve64:  # [M]
        return np.array([evaluation.env_steps for evaluation in self.evaluations], float)

    @property
    def means(self) -> Curve64:  # [M]
        return np.array([np.mean(evaluation.returns) for evaluation in self.evaluations])


@dataclass(frozen=True)
class Group:
    """The seeds of one setting on one task, up to the steps that all of them have reached."""

    name: str
    task: str
    curves: Sequence[Curve]
    env_steps: Curve64  # [M]
    scores: Curve64  # [seeds, M] mean returns, interpolated between evaluations
    minutes: float  # of the longest seed

    @property
    def seeds(self) -> list[int]:
        return [curve.seed for curve in self.curves]

    @property
    def last(self) -> tuple[float, float]:
        """Mean and standard deviation (n - 1) of the seeds at the last step that all reached."""
        final = self.scores[:, -1]
        return float(final.mean()), float(final.std(ddof=1)) if len(final) > 1 else float("nan")

    def at(self, env_steps: int) -> float:
        """Mean of the seeds at ``env_steps``; NaN outside of the curve."""
        if not self.env_steps[0] <= env_steps <= self.env_steps[-1]:
            return float("nan")
        return float(np.interp(env_steps, self.env_steps, self.scores.mean(0)))


def read_run(run: Path, config: Config) -> Curve:
    """The curve of a run folder with the settings ``config``.

    Its name is the folder's name without task and seed, and a hash of all other settings. So runs
    with different settings are never in one group.
    """
    path = run / EVALUATIONS
    evaluations = read_evaluations(path) if path.exists() else []
    if not evaluations:
        raise ConfigError(f"run: {run} has no evaluation yet; train it a little longer")
    name = run.resolve().name.removesuffix(f"-{config.seed}")
    name = name.removesuffix(f"-{config.task.replace(':', '_')}")
    return Curve(f"{name} ({settings_hash(config)[:6]})", config.task, config.seed, evaluations)


def keep(run: Path, config: Config, about: Mapping[str, Any], folder: Path, note: str) -> Path:
    """Write the run's evaluations as a score file, TASK-SEED.csv, and its settings.

    Score files are small enough for a repository. ``about`` is the content of the run's
    config.yaml. The settings go to settings/HASH.yaml, one file for all tasks that share them.
    """
    curve = read_run(run, config)
    mark = about["settings_hash"]
    looks = ", ".join(f"{name} {value}" for name, value in about["environment"].items())
    text = io.StringIO()
    text.write(
        "# every evaluation of one run, without exploration noise; return: of one whole episode\n"
        "# env_steps: simulator steps collected for training, action repeat included\n"
        f"# settings {mark} (settings/{mark}.yaml); {looks}\n"
        f"# {about['machine']}, torch {about['versions']['torch']}\n"
    )
    text.writelines(f"# {line}\n" for line in note.splitlines())
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, "start"])
    for at in curve.evaluations:
        seconds = f"{at.wall_clock_s:.0f}"
        for start, score in zip(at.seeds, at.returns, strict=True):
            row = [curve.task, curve.seed, at.env_steps, seconds, f"{score:.1f}", start]
            writer.writerow(row)
    settings = yaml.safe_dump(shared(about["settings"]), sort_keys=False)
    name = f"{curve.task.replace(':', '_').replace('/', '_')}-{curve.seed}.csv"
    _write_all(folder / "settings", {f"{mark}.yaml": settings.encode()})
    _write_all(folder, {name: text.getvalue().encode()})
    return folder / name


def read_scores(path: Path) -> list[Curve]:
    """The curves of a score file, or those of all score files in a folder."""
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    if not files:
        raise ConfigError(f"scores: {path} is neither a run (config.yaml) nor holds .csv files")
    played: dict[tuple[str, int], dict[int, list[tuple[float, float]]]] = {}
    for file in files:
        for row in _rows(file):
            moments = played.setdefault((row["task"], int(row["seed"])), {})
            moment = float(row["wall_clock_s"]), float(row["return"])
            moments.setdefault(int(row["env_steps"]), []).append(moment)
    curves = []
    for (task, seed), moments in played.items():
        evaluations = [
            Evaluation(steps, episodes[0][0], [score for _, score in episodes])
            for steps, episodes in sorted(moments.items())
        ]
        curves.append(Curve(path.stem, task, seed, evaluations))
    return curves


def group(curves: Sequence[Curve]) -> list[Group]:
    """Join the seeds of each name and task, in the order of their first curve."""
    by_name: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        members = by_name.setdefault((curve.name, curve.task), [])
        if any(member.seed == curve.seed for member in members):
            raise ConfigError(
                f"compare: {curve.task} seed {curve.seed} of {curve.name} is given twice; give each"
                " run once, or score files in folders of their own"
            )
        members.append(curve)
    return [_join(name, task, members) for (name, task), members in by_name.items()]


def table(groups: Sequence[Group]) -> list[tuple[str, ...]]:
    """A row for each group, after a row with the names of the columns.

    Published scores are those at the largest published number of steps that the group reached, or
    at the smallest if it reached none. The group's own score at the same steps comes before them.
    """
    rows: list[tuple[str, ...]] = [
        ("task", "what", "seeds", "env steps", "minutes", SCORE, "published scores")
    ]
    for each in sorted(groups, key=lambda g: g.task):
        mean, spread = each.last
        score = f"{mean:.0f} ± {spread:.0f}" if np.isfinite(spread) else f"{mean:.0f}"
        rows.append(
            (
                each.task,
                each.name,
                str(len(each.seeds)),
                f"{each.env_steps[-1]:,.0f}",
                f"{each.minutes:.0f}",
                score,
                _published(each),
            )
        )
    return rows


def write(groups: Sequence[Group], out: Path) -> list[Path]:
    """Write compare.csv and, if matplotlib is installed, compare.png."""
    contents = {"compare.csv": write_csv(groups).encode()}
    with contextlib.suppress(ImportError):  # the CSV holds all numbers
        picture = io.BytesIO()
        plot_groups(groups).savefig(picture, format="png", dpi=110)
        contents["compare.png"] = picture.getvalue()
    _write_all(out, contents)
    return [out / name for name in contents]


def _write_all(out: Path, contents: Mapping[str, bytes]) -> None:
    """Write each file under its name in the folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            files.write(out / name, content)
    except OSError as error:
        raise ConfigError(f"out: cannot write {out}: {error.strerror}") from error


def write_csv(groups: Sequence[Group]) -> str:
    """The CSV of all groups, with the published scores of their tasks."""
    text = io.StringIO(HEADER)
    text.seek(0, io.SEEK_END)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["task", "what", "seeds", "env_steps", "mean", "lowest", "highest"])
    for each in groups:
        for steps, scores in zip(each.env_steps, each.scores.T, strict=True):
            ends = scores.mean(), scores.min(), scores.max()
            numbers = [f"{value:.1f}" for value in ends]
            writer.writerow([each.task, each.name, len(each.seeds), f"{steps:.0f}", *numbers])
    for task in dict.fromkeys(each.task for each in groups):
        for steps, scores in published(task).items():
            for name, value in scores.items():
                writer.writerow([task, f"published: {name}", "", steps, f"{value:g}", "", ""])
    return text.getvalue()


def plot_groups(groups: Sequence[Group]) -> Figure:
    """Draw a panel for each task, with a curve for each group.

    A group's curve is the mean of its seeds, in a band from the lowest to the highest, up to the
    steps that all of them have reached. A thin line shows each seed.
    """
    tasks = sorted({each.task for each in groups})
    names = list(dict.fromkeys(each.name for each in groups))
    columns = min(3, len(tasks))
    lines = -(-len(tasks) // columns)
    places = [list(range(line * columns, (line + 1) * columns)) for line in range(lines)]
    figure, drawn = panels(places, width=6.4 * columns, height=5.2 * lines)
    for axes, task in zip(drawn, tasks, strict=False):
        members = [each for each in groups if each.task == task]
        for each in members:
            colour = SERIES[names.index(each.name) % len(SERIES)]
            label = f"{each.name}, {len(each.seeds)} seed{'s' if len(each.seeds) > 1 else ''}"
            low, high = each.scores.min(0), each.scores.max(0)
            axes.fill_between(each.env_steps, low, high, color=colour, alpha=0.18, lw=0)
            for curve in each.curves if len(each.curves) > 1 else ():
                axes.plot(curve.env_steps, curve.means, color=colour, lw=0.8, alpha=0.5)
            axes.plot(
                each.env_steps, each.scores.mean(0), color=colour, lw=2.4, label=label,
                marker="o" if len(each.env_steps) == 1 else None,
            )  # fmt: skip
        reached = max(curve.env_steps[-1] for each in members for curve in each.curves)
        draw_published(axes, published(task), int(reached))
        name_axes(axes, task, "env steps (simulator steps)", "return")
        if min(curve.means.min() for each in members for curve in each.curves) >= 0:
            axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(partial(_name_steps, axes))
        axes.locator_params(axis="x", nbins=5)
        axes.legend(frameon=False, fontsize=12, loc="upper left")
    for axes in drawn[len(tasks) :]:
        axes.remove()
    return figure


def _name_steps(axes: Axes, steps: float, place: int | None) -> str:
    """The label of a tick: ``400`` on an axis that ends below ``SHORT``, else ``40k``."""
    return f"{steps:,g}" if axes.get_xlim()[1] < SHORT else f"{steps / 1000:,g}k"


def _rows(file: Path) -> list[dict[str, str]]:
    try:
        lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"scores: cannot read {file}: {error}") from error
    reader = csv.DictReader(lines)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise ConfigError(
            f"scores: {file} is no score file: expected the columns {', '.join(COLUMNS)};"
            f" missing: {', '.join(missing)}"
        )
    rows = list(reader)
    for number, row in enumerate(rows, start=1):
        for name in COLUMNS[1:]:
            try:
                float(row[name])
            except (TypeError, ValueError):
                raise ConfigError(
                    f"scores: {file}: row {number}: {name}: expected a number, got {row[name]!r}"
                ) from None
    return rows


def _join(name: str, task: str, curves: Sequence[Curve]) -> Group:
    steps, means = [curve.env_steps for curve in curves], [curve.means for curve in curves]
    first, last = max(s[0] for s in steps), min(s[-1] for s in steps)
    grid = np.unique(np.concatenate(steps))
    grid = grid[(grid >= first) & (grid <= last)] if first <= last else np.array([last])
    return Group(
        name=name,
        task=task,
        curves=curves,
        env_steps=grid,
        scores=np.stack([np.interp(grid, s, m) for s, m in zip(steps, means, strict=True)]),
        minutes=max(curve.evaluations[-1].wall_clock_s for curve in curves) / 60,
    )


def _published(each: Group) -> str:
    others = published(each.task)
    if not others:
        return "-"
    reached = [steps for steps in others if steps <= each.env_steps[-1]]
    steps = reached[-1] if reached else next(iter(others))
    scores = shown(others[steps])
    ours = each.at(steps)
    words = [f"at {steps:,}:"] + ([f"ours {ours:.0f},"] if np.isfinite(ours) else [])
    first = best(others[steps])
    named = [f"{n} {v:.0f}{' (best)' if n == first else ''}" for n, v in scores.items()]
    return f"{' '.join(words)} {', '.join(named)}"
