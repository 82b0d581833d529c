"""Pictures, a video, tables and a page, of a model whose predictions are known."""

import csv
import dataclasses
import html.parser
import math
import sys

import imageio.v3
import imageio_ffmpeg
import matplotlib.colors
import matplotlib.text
import numpy as np
import pytest

from tests.adder import (
    GREY,
    STAIRS,
    Adder,
    Knowing,
    adding,
    agent_of,
    beliefs_of,
    with_vector,
)
from tests.conftest import report_quickly
from tests.test_analysis import play_toy, rings
from tests.test_choices import Levers
from worldmodel import assembly
from worldmodel.analysis import (
    look_into,
    map_latents,
    measure,
    predict,
    read_source,
    try_alternatives,
)
from worldmodel.checks import ConfigError, read
from worldmodel.envs import make_env
from worldmodel.log import Evaluation, Journal, read_metrics
from worldmodel.models import build
from worldmodel.replay import cut, write_episode
from worldmodel.report import (
    darken,
    draw_alternatives,
    draw_film,
    draw_strip,
    plot_curves,
    plot_decision,
    plot_errors,
    plot_map,
    plot_vectors,
    strip_open_loop,
    visualize,
    visualize_run,
    write_page,
)
from worldmodel.report.figures import panel_boxes, panels
from worldmodel.report.folder import Folder
from worldmodel.report.page import Fact, Section, Table, Verdict
from worldmodel.report.palette import DARK
from worldmodel.report.sections import judge, show_learning
from worldmodel.report.strips import Row, Strip, few, paint_error, say_action
from worldmodel.rollout import evaluate, play_constant
from worldmodel.structs import Spec, at


def test_larger_errors_are_drawn_brighter():
    truth = np.zeros((4, 1, 3), np.uint8)
    model = truth.copy()
    model[:, 0, 1] = 0, 30, 90, 255
    painted = paint_error(truth, model).sum(-1, dtype=int)[:, 0]
    assert painted[0] == 0
    assert (np.diff(painted) > 0).all()
    np.testing.assert_array_equal(paint_error(truth, model), paint_error(model, truth))


def test_pictures_show_the_exact_pixels():
    episode = adding([20] * 12)
    prediction = predict(agent_of(Adder()), cut([episode], [(0, 0)], rows=13))
    for picture in (draw_strip(strip_open_loop(prediction)), draw_film(prediction)[9]):
        flat = picture.reshape(-1, 3)
        assert (flat == 180).all(-1).sum() >= 2 * 100 * 150  # row 9, true and imagined


def test_no_label_is_cut_off():
    image = np.zeros((1, 4, 4, 3), np.uint8)
    row = Row("", image, np.ones(1, np.bool_), np.zeros(1, np.bool_))
    narrow = draw_strip(Strip("", [""], [row], [0]))
    for longer in ("before: -0.000123456789", "of two\nlines, of which this is longer"):
        wide = draw_strip(Strip("", [""], [dataclasses.replace(row, label=longer)], [0]))
        assert wide.shape[1] > narrow.shape[1]
        assert (wide[:, :6] == 255).all()  # nothing is drawn at the edge
    foot = draw_strip(Strip("", [""], [row], [0], foot="as long a foot as there may be " * 3))
    assert (foot[:, -6:] == 255).all()


def test_a_video_has_a_frame_of_the_same_even_size_for_each_row():
    episodes = [adding([1] * 20), adding([1] * 6)]
    frames = draw_film(predict(agent_of(Adder()), cut(episodes, [(0, 0), (1, 0)], rows=21)))
    assert len(frames) == 21
    assert len({frame.shape for frame in frames}) == 1
    assert all(side % 2 == 0 for side in frames[0].shape[:2])


def colours_at_the_top(frame):
    return {tuple(pixel) for pixel in frame[:45].reshape(-1, 3).tolist()}


def test_the_caption_of_a_film_is_on_top_and_has_a_colour_for_seen_and_for_imagined():
    prediction = predict(agent_of(Adder()), cut([adding([1] * 20)], [(0, 0)], rows=21))
    frames = draw_film(prediction, DARK)
    colours = [colours_at_the_top(frame) for frame in frames]
    seen, imagined = (tuple(bytes.fromhex(colour[1:])) for colour in (DARK.model, DARK.hold_last))
    assert [seen in each for each in colours] == [True] * 5 + [False] * 16
    assert [imagined in each for each in colours] == [False] * 5 + [True] * 16
    assert (frames[0][-50:] == frames[0][-1, -1]).all()  # room for the player's controls


def test_a_film_of_other_actions_begins_with_the_last_image_seen():
    agent = agent_of(Adder())
    episode = adding([1.0] * 6, start=40)
    beliefs = at(beliefs_of(agent, [episode]), 0)
    tried = try_alternatives(agent, episode, beliefs, 2, length=5)
    frames = draw_alternatives(tried)
    assert len(frames) == 6
    assert len({frame.shape for frame in frames}) == 1
    for frame, levels in ((frames[0], {42}), (frames[2], {40, 42, 44})):
        for level in levels:
            assert (frame == level).all(-1).sum() >= 100 * 150, level


def test_a_phone_shows_five_columns():
    long = strip_open_loop(predict(agent_of(Adder()), cut([adding([1] * 60)], [(0, 0)], rows=50)))
    assert [long.columns[place] for place in long.phone] == ["seen 5", "+1", "+5", "+15", "+45"]
    short = strip_open_loop(predict(agent_of(Adder()), cut([adding([1] * 20)], [(0, 0)], rows=12)))
    assert len(short.phone) == 5
    assert few(8) == [0, 2, 4, 5, 7]
    assert few(3) == [0, 1, 2]


def make_run(run):
    """A run folder of the adder's world, with every file that visualize reads."""
    journal = Journal(run)
    for step in (100, 200):
        journal.evaluation(step, step / 10, [step / 7, step / 9], [0, 1])
        journal.metrics({"env_steps": step, "loss/image": 1 / step, "train_return": step / 8})
    for folder in ("heldout", "replay"):
        (run / folder).mkdir()
        for number in range(2):
            episode = adding([4] * (30 + number), start=number)
            write_episode(run / folder / f"{number:06d}.npz", episode)
    return run


@pytest.fixture
def quickly(monkeypatch):
    """Measure a few windows, and draw no figures."""
    report_quickly(monkeypatch)


@pytest.fixture
def run(tmp_path, quickly):
    return make_run(tmp_path / "run")


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A run and the summary of its report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)
        run = make_run(tmp_path_factory.mktemp("seen") / "run")
        return run, visualize_run(agent_of(Adder()), run)


STRIPS = {"reconstruction.png", "open_loop.png", "alternatives.png", "futures.png"}
STRIPS |= {f"plans_{number}.png" for number in range(3)}
PANELS = {"course": 2, "errors": 3, "reward": 1, "returns": 3, "curves": 2, "map": 2}
PANELS |= {f"search_{number}": 2 for number in range(3)}
FIGURES = {f"{name}.png" for name in PANELS}
FILMS = {"open_loop.mp4", "alternatives.mp4"}
TEXTS = {"errors.csv", "plans.csv", "report.html"}


def test_everything_is_written_and_can_be_read(seen):
    run, summary = seen
    out = run / "report"
    assert {path.name for path in out.iterdir()} == STRIPS | FIGURES | TEXTS | FILMS
    assert {path.name for path in summary.files} == {path.name for path in out.iterdir()}
    (note,) = summary.notes  # the episodes are the adder's, not the toy's
    assert "no true states" in note
    for name in STRIPS | FIGURES:
        height, width, _ = imageio.v3.imread(out / name).shape
        assert height > 300
        assert width > 300
    frames, _ = imageio_ffmpeg.count_frames_and_secs(out / "open_loop.mp4")
    assert frames == 32  # rows of the longest episode
    lines = (out / "errors.csv").read_text().splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert [int(row["ahead"]) for row in rows] == list(range(1, 28))
    assert [float(row["hold_last"]) for row in rows] == summary.errors.hold_last.tolist()
    assert float(rows[0]["psnr_hold_last"]) == pytest.approx(-20 * math.log10(4 / 255))
    assert summary.reward.r_squared == 1


def test_the_summary_is_one_line_about_ten_steps(run):
    summary = str(visualize_run(agent_of(Adder()), run))
    hold_last = (40 / 255) ** 2
    assert summary.startswith(
        f"open-loop at 10 steps: model 0, hold-last {hold_last:.4g}, mean image"
    )
    assert summary.endswith("(mean squared error; lower is better)")
    assert "\n" not in summary


@pytest.mark.usefixtures("quickly")
def test_the_summary_of_short_episodes_says_how_far_it_goes(tmp_path):
    summary = visualize(agent_of(Adder()), [adding([4] * 8), adding([4] * 2)], tmp_path)
    assert str(summary).startswith("open-loop at 4 steps:")


def test_without_ffmpeg_the_video_is_a_gif_and_a_note_names_the_remedy(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    summary = visualize_run(agent_of(Adder()), run)
    assert not (run / "report" / "open_loop.mp4").exists()
    assert len(imageio.v3.imread(run / "report" / "open_loop.gif", index=None)) == 32
    assert "pip install imageio-ffmpeg" in summary.notes[0]


def test_without_matplotlib_strips_video_and_numbers_are_still_there(run):
    summary = visualize_run(agent_of(Adder()), run)
    names = {path.name for path in (run / "report").iterdir()}
    assert names == STRIPS | TEXTS | FILMS
    (note, _) = summary.notes
    assert "pip install matplotlib" in note


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigError, match=f"out: cannot write {file}"):
        visualize(agent_of(Adder()), [STAIRS], file / "report")


def test_episodes_that_are_too_short_are_refused_with_a_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"at least 6 rows .* got 5, 3; give longer episodes"):
        visualize(agent_of(Adder()), [adding([1] * 4), adding([1] * 2)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_episodes_of_another_camera_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"image: .* takes \[2, 3, 3\], got \[2, 3, 6\]"):
        visualize(agent_of(Adder()), [adding([1] * 9, channels=6)], tmp_path)


def test_true_and_predicted_vectors_are_drawn():
    windows = cut(
        [with_vector(adding([7] * 3))], [(0, 0)], rows=6
    )  # it ends before the window does
    prediction = predict(agent_of(Knowing()), windows, context=2)
    height = tuple(part[..., 0] for part in prediction.vectors["height"])
    (axes,) = plot_vectors(prediction, {"height": height}).axes
    truth, model = axes.lines
    for line in (truth, model):
        np.testing.assert_array_equal(line.get_xydata(), [[n, 7000 * n] for n in range(4)])


@pytest.mark.usefixtures("quickly")
def test_the_report_shows_how_well_vectors_are_predicted(tmp_path):
    visualize(agent_of(Knowing()), [with_vector(adding([1] * 9))], tmp_path)
    page = (tmp_path / "report.html").read_text()
    held = 1000 * math.sqrt(np.square(range(1, 6)).mean())
    assert f"<tr><td>height</td><td>0</td><td>{held:.3g}</td></tr>" in page
    visualize(agent_of(Adder()), [with_vector(adding([1] * 9))], tmp_path)
    assert "<td>height</td>" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("vectors", "got"), [({}, "none"), ({"height": np.zeros((10, 2))}, r"\[2")]
)
def test_episodes_without_the_models_vectors_are_refused(tmp_path, vectors, got):
    episode = dataclasses.replace(adding([1] * 9), vectors=vectors)
    with pytest.raises(ValueError, match=rf"height: .* takes this vector \[1\] .*, got {got}"):
        visualize(agent_of(Knowing()), [episode], tmp_path)


@pytest.mark.usefixtures("quickly")
def test_a_model_of_images_and_vectors_is_reported(tmp_path, tiny):
    config = read(tiny, {"env": {"vectors": True, "action_repeat": 8}})
    env = make_env("toy", config.env)
    episode = play_constant(env, np.array([0.3, -0.1], np.float32), seed=3).episode
    sizes = {name: part.shape[-1] for name, part in episode.vectors.items()}
    model = build(config.model, Spec((16, 16, 3), 2, vectors=sizes)).requires_grad_(False)
    visualize(assembly.agent_of(config, model), [episode], tmp_path, config=config)
    page = (tmp_path / "report.html").read_text()
    for name in ("position x", "velocity y", "goal x"):
        assert f"<td>{name}</td>" in page


# ------------------------------------------------------------------------------------ choices


def test_an_action_is_said_in_a_few_characters():
    assert say_action(np.array([0.0, 0.0, 1.0]), has_choices=True) == "choice 2"
    assert say_action(np.array([0.53, -1.0]), has_choices=False) == "+0.5 -1.0"
    assert say_action(np.zeros(6), has_choices=False) == ""


@pytest.mark.usefixtures("quickly")
def test_a_model_of_choices_is_reported(tmp_path, tiny):
    model = build(tiny.model, Spec((16, 16, 3), 3, has_choices=True)).requires_grad_(False)
    agent = assembly.agent_of(tiny, model)
    played = evaluate(agent, Levers(14), 1, seed=7)
    visualize(agent, played.episodes, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "What the planner compares" in page
    assert "begins with another choice at" in page  # the seeds of these plans are unknown
    beliefs = at(beliefs_of(agent, played.episodes), 0)
    moment = look_into(agent, played.episodes[0], beliefs, 2)
    for actions in (moment.plan_actions, moment.first_actions, moment.last_actions):
        assert set(np.unique(actions)) == {0, 1}
        assert (actions.sum(-1) == 1).all()


def test_a_decision_shows_the_plan_the_band_of_elites_and_what_was_done():
    agent = agent_of(Adder())
    episode = adding([0.5] * 12)
    moment = look_into(agent, episode, at(beliefs_of(agent, [episode]), 0), 2)
    returns, action = plot_decision(moment).axes
    plan, done = action.lines
    np.testing.assert_array_equal(plan.get_ydata(), moment.plan_actions[:, 0])
    np.testing.assert_array_equal(done.get_ydata(), [0.5] * 6)
    (band,) = action.collections
    height = band.get_paths()[0].vertices[:, 1]
    assert height.min() == moment.elite_actions.min()
    assert height.max() == moment.elite_actions.max()
    (zero,) = returns.lines  # returns are compared with the plan's
    assert set(zero.get_ydata()) == {0}
    best = max(moment.returns[-1].max(), moment.returns[0].max()) - moment.plan_return
    drawn = np.concatenate([dots.get_offsets()[:, 1] for dots in returns.collections])
    assert drawn.max() == pytest.approx(best, abs=1e-5)


def test_a_run_without_held_out_episodes_is_named(tmp_path):
    with pytest.raises(ConfigError, match="heldout holds no episode yet"):
        visualize_run(agent_of(Adder()), tmp_path)


def test_a_broken_held_out_episode_is_skipped_and_reported(run):
    (run / "heldout" / "000001.npz").write_bytes(b"torn")
    summary = visualize_run(agent_of(Adder()), run)
    assert "000001.npz" in summary.notes[0]
    assert "000001.npz" in (run / "report" / "report.html").read_text()
    (run / "heldout" / "000000.npz").write_bytes(b"torn")
    with pytest.raises(ConfigError, match=r"heldout holds no episode; .*000000.npz.*: delete it"):
        visualize_run(agent_of(Adder()), run)


def test_figures_of_few_numbers_are_drawn(tmp_path, seen):
    errors = measure(agent_of(Adder()), [adding([1] * 5)], GREY)
    metrics = read_metrics(seen[0] / "metrics.jsonl")
    for number, figure in enumerate(
        [
            plot_errors(errors),
            plot_curves([], []),
            plot_curves([Evaluation(5, 1.0, [3.0], [0])], metrics[:1]),
        ]
    ):
        figure.savefig(tmp_path / f"{number}.png")


def test_importing_loads_no_plotting_and_no_video(new_process):
    heavy = {"matplotlib", "imageio", "imageio_ffmpeg", "PIL"}
    assert not heavy & new_process.modules["report"]


def test_a_ring_is_drawn_as_a_ring():
    """With unequal scales it would be an ellipse."""
    features, angle = rings(np.random.default_rng(0), rows=100)
    mapped = map_latents(features)
    colours = {"angle of pole": np.concatenate(angle)}
    flat, bar = plot_map(mapped, colours).axes
    assert flat.get_aspect() == 1
    colour = flat.collections[0].to_rgba([-np.pi, np.pi, 0.0])
    assert (
        np.abs(colour[0] - colour[1]).max() < 0.12
    )  # the first and the last colour are nearly the same
    assert np.abs(colour[0] - colour[2]).max() > 0.8
    assert [label.get_text() for label in bar.get_yticklabels()][::2] == ["-π", "0", "π"]


@pytest.mark.usefixtures("quickly")
def test_the_report_holds_true_states_if_they_are_known(tmp_path, model, tiny):
    toy_episodes = play_toy()
    episodes = [*toy_episodes, dataclasses.replace(toy_episodes[0])]
    run = tmp_path / "run"
    (run / "heldout").mkdir(parents=True)
    for number, episode in enumerate(episodes):
        write_episode(run / "heldout" / f"{number:06d}.npz", episode)
    Journal(run).evaluation(100, 1.0, [1.0, 2.0, 3.0], [3, 4, 3])
    as_played = read(tiny, {"env": {"action_repeat": 8}})
    summary = visualize_run(assembly.agent_of(as_played, model), run, config=as_played)
    assert [note for note in summary.notes if "matplotlib" not in note] == []
    assert {"position x", "velocity y"} <= {one.name for one in summary.probes}
    assert (run / "report" / "probe.csv").read_text().count("\n") == 4 + len(summary.probes)
    page = (run / "report" / "report.html").read_text()
    assert "velocity y" in page


# ------------------------------------------------------------------------------------- the page


class Reader(html.parser.HTMLParser):
    """Every tag, and every value that a browser might fetch."""

    def __init__(self):
        super().__init__()
        self.tags, self.asked, self.named = [], [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "srcset", "action", "poster", "data", "background"):
                self.asked.append(value)
            if name == "id":
                self.named.add(value)
            assert not name.startswith("on"), f"{tag} {name}: a script"


def test_the_page_loads_nothing_from_elsewhere(seen):
    run, _ = seen
    page = (run / "report" / "report.html").read_text()
    reader = Reader()
    reader.feed(page)
    assert not {"script", "iframe", "object", "embed", "form"} & set(reader.tags)
    outside = [value for value in reader.asked if not value.startswith("data:")]
    assert outside
    assert {f"#{name}" for name in reader.named} == set(outside)  # links to sections of the page
    assert "url(" not in page
    assert "@import" not in page
    panels = sum(PANELS.values())
    assert reader.tags.count("source") == panels  # each has a picture for a dark page
    tiles = page.count('<img src="data:image/png')
    assert tiles > 100
    for kind, count in (("image/png", 2 * panels + tiles + len(FILMS)), ("video/mp4", len(FILMS))):
        assert page.count(f"data:{kind};base64,") == count
    assert "default-src 'none'" in page


def test_what_is_written_on_the_page_is_text():
    parts = [Table(["<i>"], [["<s>"]])]
    fact = Fact("<u>", "<p>", verdict=Verdict("<ins>", "good"))
    section = Section("<q>", "<del>", "<sub>", parts, "<sup>")
    page = write_page("<kbd>", "&", [fact], [section], ["<em>"])
    for tag in ("<kbd>", "<u>", "<ins>", "<q>", "<del>", "<sub>", "<sup>", "<em>", "<i>", "<s>"):
        assert tag not in page
        assert tag.replace("<", "&lt;").replace(">", "&gt;") in page


def test_a_verdict_is_a_word_a_sign_and_a_colour():
    good = judge(1.0, {"hold-last": 2.0, "the mean": 3.0})
    mixed = judge(0.055, {"hold-last": 0.8, "the mean": 0.00077})
    bad = judge(5.0, {"hold-last": 2.0, "the mean": 3.0})
    assert (good.words, good.level) == ("better than both guesses", "good")
    assert mixed.words == "worse than the mean, better than hold-last"
    assert (bad.words, bad.level) == ("worse than both guesses", "bad")
    assert judge(2.0, {"hold-last": 2.0}).words == "no better than hold-last"
    assert len({verdict.sign for verdict in (good, mixed, bad)}) == 3
    page = write_page("", "", [Fact("error", "5", verdict=bad)], [])
    assert '<span class="verdict bad">✗ worse than both guesses</span>' in page


def test_sections_without_content_are_left_out(run):
    """One evaluation and one row of metrics are no curve."""
    for name in ("eval.csv", "metrics.jsonl"):
        (run / name).unlink()
    journal = Journal(run)
    journal.evaluation(100, 10.0, [1.0, 2.0], [0, 1])
    journal.metrics({"env_steps": 100, "loss/image": 1.0})
    source = read_source(run)
    folder = Folder(run / "report")
    assert show_learning(folder, source, "") == []
    journal.evaluation(200, 20.0, [3.0, 4.0], [0, 1])
    (section,) = show_learning(folder, source, "")
    assert section.title == "How it learned"
    assert section.seen == "The score went from 2 after 100 steps to 4 after 200."


def test_each_panel_of_a_figure_has_a_box_of_its_own():
    figure, (*_, last) = panels([[0, 0], [0, 0], [1, 2]], width=4, height=3)
    assert panel_boxes(figure) == [
        pytest.approx(box) for box in [(0, 0, 1, 2 / 3), (0, 2 / 3, 0.5, 1), (0.5, 2 / 3, 1, 1)]
    ]
    last.remove()
    assert len(panel_boxes(figure)) == 2


def test_every_word_of_a_dark_chart_can_be_read():
    errors = measure(agent_of(Adder()), [STAIRS], GREY, context=2)
    light = plot_errors(errors)
    words = [text.get_text() for text in light.findobj(matplotlib.text.Text)]
    dark = darken(plot_errors(errors))
    assert [text.get_text() for text in dark.findobj(matplotlib.text.Text)] == words
    for text in dark.findobj(matplotlib.text.Text):
        assert min(matplotlib.colors.to_rgb(text.get_color())) > 0.8
    assert max(matplotlib.colors.to_rgb(dark.get_facecolor())) < 0.2
    colours = {line.get_color() for line in dark.axes[0].lines}
    assert all(max(matplotlib.colors.to_rgb(colour)) > 0.6 for colour in colours)


SMALLEST_WORDS = 10 * 110 / 72  # pixels: 10 points in a figure of 110 dots per inch
READABLE = 6  # pixels on the screen
SEEN = """async () => ({
  pictures: [...document.images].map(i => [i.complete, i.naturalWidth]),
  charts: [...document.querySelectorAll('picture img')].map(i => [
    i.width / i.naturalWidth, i.currentSrc === i.src]),
  videos: await Promise.all([...document.querySelectorAll('video')].map(async video => {
    const poster = new Image(); poster.src = video.poster; await poster.decode();
    return [video.videoWidth, poster.naturalWidth, video.clientHeight / innerHeight]; })),
  paper: getComputedStyle(document.body).backgroundColor,
  across: document.scrollingElement.scrollWidth,
  columns: [...document.querySelectorAll('.tiles')].map(tiles =>
    [...tiles.children].filter(c => c.getClientRects().length && c.offsetTop === 0).length - 1),
  cut_off: [...document.querySelectorAll('figure, figure *')]
    .filter(part => part.tagName !== 'INPUT' && part.getClientRects().length)
    .filter(part => {
      const box = part.getBoundingClientRect();
      const column = part.closest('section').getBoundingClientRect();
      return box.right > column.right || box.left < column.left; })
    .map(part => part.outerHTML.slice(0, 200)),
  words_cut_off: [...document.querySelectorAll('p, h1, h2, dd, nav a, td')]
    .filter(part => part.getBoundingClientRect().right > innerWidth).map(part => part.outerHTML),
})"""


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_a_browser_shows_the_page_without_messages_or_requests(seen, browser, scheme, width):
    """Every figure lies within its column, and nothing scrolls sideways."""
    run, _ = seen
    messages, asked = [], []
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((run / "report" / "report.html").as_uri())
    page.wait_for_load_state("load")
    page.wait_for_function("[...document.querySelectorAll('video')].every(v => v.readyState > 1)")
    page_state = page.evaluate(SEEN)
    page.close()
    assert messages == []
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    assert sum(url.startswith("file:") for url in asked) == 1
    assert len(page_state["charts"]) == sum(PANELS.values())
    assert all(complete and size > 0 for complete, size in page_state["pictures"])
    assert min(scale for scale, _ in page_state["charts"]) * SMALLEST_WORDS > READABLE
    assert {is_light for _, is_light in page_state["charts"]} == {scheme == "light"}
    for video, poster, share in page_state["videos"]:
        assert video == poster > 0  # the poster is shown before the video is played
        assert share <= 0.7
    assert page_state["paper"] == {"light": "rgb(246, 246, 244)", "dark": "rgb(15, 17, 21)"}[scheme]
    assert page_state["across"] <= width
    assert page_state["cut_off"] == []
    assert page_state["words_cut_off"] == []
    assert (max(page_state["columns"]) <= 5) == (width == 390)


@pytest.mark.browser
def test_a_click_enlarges_a_figure_and_another_click_ends_it(seen, browser):
    run, _ = seen
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto((run / "report" / "report.html").as_uri())
    for name in (".tiles", ".chart img"):
        part = page.locator(name).first
        before = part.bounding_box()["width"]
        part.click()
        assert part.bounding_box()["width"] > 1.2 * before
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
        part.click()
        assert part.bounding_box()["width"] == before
    page.close()
