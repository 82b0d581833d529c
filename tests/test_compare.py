"""Curves of several runs, compared with published ones."""

import csv
import math
import sys

import pytest

from worldmodel import cli
from worldmodel.checks import ConfigError, read
from worldmodel.compare import (
    Curve,
    group,
    keep,
    plot_groups,
    read_run,
    read_scores,
    table,
    write_csv,
)
from worldmodel.config import Config
from worldmodel.log import Evaluation, Journal
from worldmodel.published import best, published, shown, source


def curve(seed, points, name="mine", task="cartpole_swingup"):
    return Curve(
        name, task, seed, [Evaluation(at, at / 10, [low, high]) for at, low, high in points]
    )


ONE = curve(0, [(100, 0, 20), (300, 40, 60), (500, 80, 100)])
TWO = curve(1, [(200, 50, 50), (400, 50, 50)])


def test_seeds_are_joined_up_to_the_steps_that_all_have_reached():
    (both,) = group([ONE, TWO])
    assert both.env_steps.tolist() == [200, 300, 400]
    assert both.scores.tolist() == [[30, 50, 70], [50, 50, 50]]
    assert both.last == (60, pytest.approx(math.sqrt(200)))
    assert both.minutes == 50 / 60
    assert both.at(250) == 45
    assert math.isnan(both.at(500))


def test_one_seed_has_no_spread():
    (alone,) = group([ONE])
    assert alone.last[0] == 90
    assert math.isnan(alone.last[1])
    assert table([alone])[1][5] == "90"


def test_seeds_without_common_steps_are_compared_at_the_last_of_the_shortest():
    (apart,) = group([curve(0, [(100, 1, 1), (200, 2, 2)]), curve(1, [(300, 5, 5)])])
    assert apart.env_steps.tolist() == [200]
    assert apart.scores.tolist() == [[2], [5]]


def test_different_settings_and_tasks_are_different_groups():
    groups = group([ONE, curve(0, [(100, 1, 1)], name="yours"), curve(1, [(9, 1, 1)], task="toy")])
    assert [(one.name, one.task) for one in groups] == [
        ("mine", "cartpole_swingup"),
        ("yours", "cartpole_swingup"),
        ("mine", "toy"),
    ]


def test_a_kept_run_is_a_score_file_and_a_file_of_settings(tmp_path):
    run = tmp_path / "default-toy-3"
    run.mkdir()
    journal = Journal(run)
    journal.evaluation(200, 1.6, [1.25, 3.0], [7, 8])
    config = read(Config(), {"task": "toy", "seed": 3})
    about = {
        "settings": {"task": "toy", "seed": 3, "discount_rate": 0.9},
        "settings_hash": "abc",
        "environment": {"renderer": "toy"},
        "versions": {"torch": "2"},
        "machine": "two cores",
    }
    kept = keep(run, config, about, tmp_path / "scores", "next to\nother work")
    assert kept.name == "toy-3.csv"
    assert "# settings abc (settings/abc.yaml); renderer toy\n" in kept.read_text()
    assert "# next to\n# other work\n" in kept.read_text()
    assert (tmp_path / "scores" / "settings" / "abc.yaml").read_text() == "discount_rate: 0.9\n"
    (back,) = read_scores(tmp_path / "scores")
    assert (back.name, back.task, back.seed) == ("scores", "toy", 3)
    assert [(e.env_steps, e.wall_clock_s, e.returns) for e in back.evaluations] == [
        (200, 2.0, [1.2, 3.0])
    ]


def test_a_seed_given_twice_is_a_mistake():
    with pytest.raises(ConfigError, match="cartpole_swingup seed 0 of mine is given twice"):
        group([ONE, ONE])


def test_published_scores_are_those_of_the_file():
    scores = published("cartpole_swingup")
    assert list(scores) == [100_000, 200_000, 500_000, 1_000_000]
    assert scores[100_000]["planet"] == 297
    assert scores[1_000_000]["planet"] == 821
    assert "planet" not in scores[200_000]  # it has no published score at these steps
    assert best(scores[100_000]) == "playvirtual"
    assert published("toy") == {}
    for line in source().read_text().splitlines():
        assert len(line) <= 130 or not line.startswith("#")


def test_a_score_read_off_a_figure_is_never_the_best():
    scores = published("reacher_easy")[100_000]
    assert scores["ezv2~"] > scores[best(scores)]
    assert not any(name.endswith("~") for name in shown(scores))


def test_our_score_is_compared_at_the_same_steps():
    far = curve(0, [(50_000, 100, 100), (150_000, 300, 300)])
    (line,) = table(group([far]))[1:]
    assert line[-1].startswith("at 100,000: ours 200, planet 297, dreamerv3 550")
    assert "playvirtual 816 (best)" in line[-1]
    (line,) = table(group([ONE]))[1:]  # it never reached these steps
    assert line[-1].startswith("at 100,000: planet 297")
    (line,) = table(group([curve(0, [(9, 1, 1)], task="toy")]))[1:]
    assert line[-1] == "-"


def test_the_csv_holds_every_moment_and_every_published_score():
    lines = [a for a in write_csv(group([ONE, TWO])).splitlines() if not a.startswith("#")]
    rows = list(csv.DictReader(lines))
    ours = [row for row in rows if row["what"] == "mine"]
    assert [row["env_steps"] for row in ours] == ["200", "300", "400"]
    assert [ours[0][end] for end in ("mean", "lowest", "highest")] == ["40.0", "30.0", "50.0"]
    theirs = [row for row in rows if row["what"] == "published: planet"]
    assert [row["mean"] for row in theirs] == ["297", "475", "821"]


def test_a_picture_has_a_panel_for_each_task_and_a_band_for_each_setting():
    figure = plot_groups(group([ONE, TWO, curve(0, [(9, 1, 1)], task="toy")]))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["cartpole_swingup", "toy"]
    assert len(figure.axes[0].collections) == 1
    written = [text.get_text() for text in figure.axes[0].texts]
    assert "planet 297" in written
    assert not any(text.startswith("planet 8") for text in written)  # no run reached these steps


@pytest.mark.parametrize(("reached", "shown"), [(50_000, 1), (100_000, 1), (100_001, 2)])
def test_a_picture_ends_at_the_published_budget_that_was_reached_or_comes_next(reached, shown):
    figure = plot_groups(group([curve(0, [(5_000, 1, 1), (reached, 2, 1)])]))
    budgets = {line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "D"}
    assert sorted(budgets) == [100_000, 200_000][:shown]


@pytest.mark.parametrize(
    ("reached", "task", "expected"),
    [
        (2_000, "toy", ["0", "500", "1,000", "1,500", "2,000"]),
        (800, "toy", ["0", "200", "400", "600", "800"]),
        (40_000, "toy", ["0k", "10k", "20k", "30k", "40k"]),
        (2_000, "cartpole_swingup", ["0k", "25k", "50k", "75k", "100k"]),  # to published scores
    ],
)
def test_ticks_are_steps_where_the_axis_is_short(reached, task, expected) -> None:
    figure = plot_groups(group([curve(0, [(0, 1, 1), (reached, 2, 1)], task=task)]))
    figure.canvas.draw()
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert [label for label in labels if label in expected] == expected
    assert len(set(labels)) == len(labels)


def test_the_score_names_its_spread():
    head, line = table(group([ONE, TWO]))
    assert head[5] == "score ± std of seeds"
    assert line[5] == "60 ± 14"  # 70 and 50


SCORES = "# a note\ntask,seed,env_steps,wall_clock_s,episode,return\n"


def test_score_files_are_read_one_by_one_or_as_a_folder(tmp_path):
    (tmp_path / "a.csv").write_text(SCORES + "toy,0,10,1.5,0,3\ntoy,0,10,1.5,1,5\ntoy,0,5,1,0,1\n")
    (tmp_path / "b.csv").write_text(SCORES + "toy,1,10,2,0,7\n")
    one, two = read_scores(tmp_path)
    assert (one.name, one.task, one.seed, two.seed) == (tmp_path.name, "toy", 0, 1)
    assert [(e.env_steps, e.returns) for e in one.evaluations] == [(5, [1]), (10, [3, 5])]
    (alone,) = read_scores(tmp_path / "b.csv")
    assert alone.name == "b"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("task,seed\ntoy,0\n", "missing: env_steps, wall_clock_s, return"),
        (SCORES + "toy,0,ten,1,0,1\n", "row 1: env_steps: expected a number, got 'ten'"),
        (SCORES + "toy,0,10,1,0\n", "row 1: return: expected a number, got None"),
        ("", "is no score file"),
    ],
)
def test_a_bad_score_file_is_named(tmp_path, content, complaint):
    file = tmp_path / "scores.csv"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"scores\.csv") as raised:
        read_scores(file)
    assert complaint in str(raised.value)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Run folders: two seeds of one setting and one of another."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.chdir(tmp_path)
    folders = []
    for name, settings in (
        ("default-toy-0", {"seed": 0}),
        ("default-toy-1", {"seed": 1}),
        ("short-toy-0", {"planner": {"horizon": 3}}),
    ):
        run = tmp_path / "runs" / name
        Journal(run).evaluation(100, 60.0, [1.0, 3.0], [7, 8])
        config = read(Config(), {"task": "toy"} | settings)
        folders.append((run, config))
    return folders


def test_runs_of_the_same_settings_are_one_group(runs):
    groups = group([read_run(run, config) for run, config in runs])
    assert [list(one.seeds) for one in groups] == [[0, 1], [0]]
    names = [one.name.split(" ")[0] for one in groups]
    assert names == ["default", "short"]


def test_a_run_without_an_evaluation_is_named(tmp_path):
    with pytest.raises(ConfigError, match="has no evaluation yet; train it a little longer"):
        read_run(tmp_path, Config())


@pytest.mark.parametrize("sign", [1, -1])
def test_every_point_is_inside_the_picture(sign):
    """If a task has only costs, its curve is below zero."""
    points = [(at, sign * low, sign * low) for at, low, _ in ((100, 900, 0), (200, 300, 0))]
    (axes,) = plot_groups(group([curve(0, points, task="toy")])).axes
    bottom, top = axes.get_ylim()
    assert bottom < top
    assert all(bottom <= value <= top for value in axes.lines[0].get_ydata())
    assert (bottom == 0) == (sign > 0)


def test_a_seed_that_went_further_is_drawn_to_its_end():
    short = curve(0, [(100, 3, 5), (200, 4, 6)], task="toy")
    long = curve(1, [(100, 1, 1), (200, 2, 2), (400, 9, 9)], task="toy")
    (axes,) = plot_groups(group([short, long])).axes
    ends = [line.get_xydata()[-1].tolist() for line in axes.lines]
    assert ends == [[200, 5], [400, 9], [200, 3.5]]  # each seed, and their mean
    (axes,) = plot_groups(group([long])).axes
    assert len(axes.lines) == 1  # a seed alone is its own mean


def test_the_command_writes_a_table_numbers_and_a_picture(runs, tmp_path, capsys, monkeypatch):
    (tmp_path / "scores.csv").write_text(SCORES + "toy,5,200,2,0,7\n")
    assert cli.main(["compare", "scores.csv", "--out", "seen"]) == 0
    output = capsys.readouterr().out
    assert "toy   scores  1      200" in output
    assert {path.name for path in (tmp_path / "seen").iterdir()} == {"compare.csv", "compare.png"}
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["compare", "scores.csv", "--out", "plain"]) == 0
    assert "pip install matplotlib" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "plain").iterdir()] == ["compare.csv"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nowhere"], "there is no nowhere"),
        (["runs"], "neither a run (config.yaml) nor holds .csv files"),
        ([], "RUN"),
    ],
)
def test_a_mistake_creates_nothing(runs, tmp_path, capsys, words, complaint):
    assert cli.main(["compare", *words]) == 2
    output = capsys.readouterr()
    assert complaint in output.err + output.out
    assert not (tmp_path / "comparison").exists()


def test_settings_of_another_version_are_reported_with_the_version(runs, capsys):
    run, _ = runs[0]
    about = "settings: {planner: {wings: 2}}\nimage: [8, 8, 3]\naction_size: 2\nenvironment: {}\n"
    (run / "config.yaml").write_text(about + "versions: {worldmodel: 9.9.9}\n")
    for command in ("compare", "visualize"):
        assert cli.main([command, str(run)]) == 2
        output = capsys.readouterr().err
        assert "planner.wings: no such setting" in output
        assert "was made by worldmodel 9.9.9" in output
