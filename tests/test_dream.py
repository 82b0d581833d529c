"""The dream: rows that a model imagines for a person, and the page that shows them."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import TINY
from worldmodel import demo, model_file
from worldmodel.agent import Agent
from worldmodel.analysis.starts import Starts, read_starts, starts_of
from worldmodel.assembly import agent_of
from worldmodel.checks import ConfigError, read
from worldmodel.cli import main
from worldmodel.config import Config
from worldmodel.dream import Dream, Row
from worldmodel.dream.page import KEPT, DreamServer, describe, write_page
from worldmodel.local_page import HOST
from worldmodel.models import build
from worldmodel.replay import write_episode
from worldmodel.structs import Episode, Spec, at, leaves

COLOUR = Spec((16, 16, 3), 2)
STACKED = Spec((16, 16, 6), 3, has_choices=True, vectors={"joints": 4}, frames=2)
ACTIONS = [[0.5, -1.0], [1.0, 0.25], [0.0, 0.0], [-1.0, 0.75]]


def agent(spec: Spec = COLOUR, **model: object) -> Agent:
    """An agent with random weights, also in layers that begin at zero."""
    torch.manual_seed(1)
    settings = {**TINY, "model": {**TINY["model"], **model}}  # type: ignore[dict-item]
    settings |= {"env": {"image_size": spec.image[0], "frames": spec.frames}}
    if "policy" in model:
        settings |= {"behaviour": None}
    config = read(Config(), settings)
    made = build(config.model, spec)
    for name, weights in made.requires_grad_(False).named_parameters():
        torch.nn.init.normal_(weights, std=1.0 if name.startswith("dynamics") else 0.25)
    return agent_of(config, made)


def episode(spec: Spec = COLOUR, rows: int = 9, seed: int = 0) -> Episode:
    random = np.random.default_rng(seed)
    action = random.uniform(-1, 1, (rows, spec.action_size)).astype(np.float32)
    if spec.has_choices:
        action = np.eye(spec.action_size, dtype=np.float32)[action.argmax(1)]
    return Episode(
        image=random.integers(0, 256, (rows, *spec.image), np.uint8),
        action=action,
        reward=np.zeros(rows, np.float32),
        discount=np.ones(rows, np.float32),
        env_steps=np.ones(rows, np.int64),
        vectors={
            name: random.normal(size=(rows, size)).astype(np.float32)
            for name, size in spec.vectors.items()
        },
    )


def starts(of: Agent) -> Starts:
    return starts_of(of, [episode(of.model.spec, seed=seed) for seed in range(2)])


def dreamt(dream: Dream, start: int, actions: list[list[float]]) -> list[Row]:
    rows = [dream.begin(start)]
    for action in actions:
        rows.append(dream.step(rows[-1], action))
    return rows


def test_dreaming_is_imagining_the_same_actions_exactly() -> None:
    dream = Dream(agent(), starts(agent()))
    model, belief = dream.agent.model, at(dream.starts.beliefs, slice(1, 2))
    rows = dreamt(dream, 1, ACTIONS)[1:]
    imagined = model.imagine(belief, torch.tensor([ACTIONS]), None)  # [1, L]
    for number, row in enumerate(rows):
        expected = at(imagined, (slice(None), number))
        for name, tensor in leaves(expected).items():
            assert torch.equal(leaves(row.belief)[name], tensor), name
        assert np.array_equal(row.image, model.decode(expected)[0].numpy())
        assert row.reward == float(model.reward(expected.features))
        assert row.value == float(model.slow_value(expected.features))
        assert row.goes_on == float(model.discount(expected.features))


def test_a_dream_begins_with_what_the_model_believes_after_the_images_of_a_window() -> None:
    of = agent()
    whole = episode(rows=9)
    begun = starts_of(of, [whole])
    assert (begun.rows, len(begun.images)) == (5, 5)  # of 9 rows, 5 windows of 5
    for start in range(5):
        belief = of.initial()
        for row in range(start, start + 5):
            belief = of.observe(belief, whole.action[row], whole.image[row])
        expected = of.model.decode(at(belief, None))[0].numpy()
        drawn = Dream(of, begun).begin(start).image
        assert np.abs(drawn.astype(int) - expected).max() <= 1  # sums of a batch round differently
        assert np.array_equal(begun.images[start], whole.image[start + 4])


def test_beginning_again_gives_the_same_first_image() -> None:
    dream = Dream(agent(), starts(agent()))
    first = dreamt(dream, 0, ACTIONS)[0]
    dreamt(dream, 1, ACTIONS)
    again = dream.begin(0)
    assert np.array_equal(again.image, first.image)
    assert not np.array_equal(again.image, dream.begin(1).image)


def test_other_actions_from_the_same_start_give_other_images() -> None:
    dream = Dream(agent(), starts(agent()))
    left, right = (dream.step(dream.begin(0), [side, 0.0]).image for side in (-1.0, 1.0))
    assert not np.array_equal(left, right)


def test_an_action_is_clipped_and_a_choice_is_one_of_the_choices() -> None:
    dream = Dream(agent(), starts(agent()))
    assert dream.step(dream.begin(0), [7.0, -0.5]).action.tolist() == [1.0, -0.5]
    chooser = agent(STACKED)
    choosing = Dream(chooser, starts(chooser))
    row = choosing.step(choosing.begin(0), [0.2, 0.1, 0.9])
    assert row.action.tolist() == [0.0, 0.0, 1.0]
    assert row.image.shape == (16, 16, 3)  # the newest of two stacked images
    assert sorted(choosing.let_act(row).action.tolist()) == [0.0, 0.0, 1.0]
    for wrong in ([1.0], [1.0, float("nan"), 0.0]):
        with pytest.raises(ValueError, match="action: expected"):
            choosing.step(row, wrong)
    with pytest.raises(ConfigError, match=r"start: expected 0 to \d+, got -1"):
        choosing.begin(-1)


def test_the_agent_acts_by_its_policy_and_without_one_by_its_planner() -> None:
    acting = agent()
    dream = Dream(acting, starts(acting))
    begun = dream.begin(0)
    row = dream.let_act(begun)
    assert np.array_equal(row.action, acting.act(begun.belief)[0])
    assert row.plan is None
    planning = agent(policy=None, value=None)
    dream = Dream(planning, starts(planning))
    row = dream.let_act(dream.let_act(dream.begin(0)))
    assert row.plan is not None
    assert np.array_equal(row.action, row.plan.first[0])
    assert row.value is None  # there is no such head
    assert row.reward is not None


def test_starts_are_heldout_images_or_those_of_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    of = agent()
    with pytest.raises(ConfigError, match=r"no episode in heldout or replay.*train the run"):
        read_starts(of, tmp_path)
    for folder, seed in (("replay", 1), ("heldout", 2)):
        (tmp_path / folder).mkdir()
        write_episode(tmp_path / folder / "000000.npz", episode(seed=seed))
        begun = read_starts(of, tmp_path)
        assert begun.are_heldout == (folder == "heldout")
        assert np.array_equal(begun.images[0], episode(seed=seed).image[4])
    (tmp_path / "heldout" / "000000.npz").write_bytes(b"half")
    assert not read_starts(of, tmp_path).are_heldout
    assert "it is skipped" in caplog.text
    write_episode(tmp_path / "heldout" / "000001.npz", episode(STACKED))
    with pytest.raises(ConfigError, match=r"do not fit its model: image: .*16, 16, 3"):
        read_starts(of, tmp_path)


def test_an_episode_shorter_than_a_window_is_seen_whole() -> None:
    of = agent()
    begun = starts_of(of, [episode(rows=3), episode(rows=9)])
    assert begun.rows == 3
    assert len(begun.images) > 2


Post = Callable[..., tuple[int, Any]]


@contextmanager
def serving(dream: Dream) -> Iterator[Post]:
    with DreamServer(dream, "a task", 0) as server:
        port = int(server.address.rpartition(":")[2])

        def post(path: str, asked: object = None, **headers: str) -> tuple[int, Any]:
            sent = {"Host": f"{HOST}:{port}", "Content-Type": "application/json"}
            sent |= {name.replace("_", "-"): value for name, value in headers.items()}
            connection = http.client.HTTPConnection(HOST, port, timeout=20)
            body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
            connection.request("POST", path, body, sent)
            answer = connection.getresponse()
            said = answer.read().decode()
            connection.close()
            return answer.status, json.loads(said) if answer.status == 200 else said

        yield post


def image_of(row: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(row["image"]), np.uint8).reshape(16, 16, 3)


def test_dreams_of_several_pages_do_not_mix() -> None:
    dream = Dream(agent(), starts(agent()))
    courses = [(0, ACTIONS), (1, ACTIONS), (0, ACTIONS[::-1])]
    alone = [dreamt(dream, start, actions) for start, actions in courses]
    with serving(dream) as post:
        rows = [[post("/begin", {"start": start})[1]] for start, _ in courses]
        for step in range(len(ACTIONS)):
            for number, (_, actions) in enumerate(courses):
                asked = {"dream": rows[number][0]["dream"], "action": actions[step]}
                rows[number].append(post("/step", asked)[1])
    for served, expected in zip(rows, alone, strict=True):
        for row, by_itself in zip(served, expected, strict=True):
            assert np.array_equal(image_of(row), by_itself.image)
            assert row["reward"] == by_itself.reward


def test_the_agent_acts_if_no_action_is_sent() -> None:
    dream = Dream(agent(), starts(agent()))
    with serving(dream) as post:
        begun = post("/begin", {"start": 1})[1]
        row = post("/step", {"dream": begun["dream"], "action": None})[1]
    expected = dream.let_act(dream.begin(1))
    assert row["action"] == expected.action.tolist()
    assert np.array_equal(image_of(row), expected.image)


def test_only_the_dreams_used_last_are_kept() -> None:
    with serving(Dream(agent(), starts(agent()))) as post:
        first, second = (post("/begin", {"start": 0})[1]["dream"] for _ in range(2))
        post("/step", {"dream": first, "action": [0, 0]})
        for _ in range(KEPT - 1):
            post("/begin", {"start": 0})
        assert post("/step", {"dream": first, "action": [0, 0]})[0] == 200
        assert post("/step", {"dream": second, "action": [0, 0]})[0] == 404


@pytest.mark.parametrize(
    ("path", "asked", "sentence"),
    [
        ("/begin", {"start": 99}, "start: expected 0 to"),
        ("/begin", {"start": "0"}, "start: expected a number"),
        ("/begin", [1], "expected a JSON object"),
        ("/begin", b"{", "Expecting"),
        ("/step", {"action": [1.0]}, "action: expected float32 [2], got float32 [1]"),
        ("/step", {"action": {"a": 1}}, "action: expected a list of numbers"),
        ("/step", {"action": ["x", "y"]}, "could not convert"),
    ],
)
def test_a_wrong_request_gets_a_sentence_and_the_dream_goes_on(
    path: str, asked: Any, sentence: str
) -> None:
    with serving(Dream(agent(), starts(agent()))) as post:
        name = post("/begin", {"start": 0})[1]["dream"]
        if path == "/step":
            asked = {**asked, "dream": name}
        status, said = post(path, asked)
        assert status == 400
        assert sentence in said
        assert post("/step", {"dream": name, "action": [0, 0]})[0] == 200


def test_other_pages_hosts_and_paths_get_nothing() -> None:
    with serving(Dream(agent(), starts(agent()))) as post:
        begin = {"start": 0}
        assert post("/begin", begin, Host="elsewhere.example:80")[0] == 404
        assert post("/begin", begin, Origin="http://elsewhere.example")[0] == 404
        assert post("/begin", begin, Origin=f"http://{HOST}:1")[0] == 404  # another local page
        assert post("/begin", begin, Content_Type="text/plain")[0] == 404
        assert post("/other", begin)[0] == 404
        assert post("/begin", b" " * 100_000)[0] == 413
        assert post("/begin", begin, Host="localhost:7", Origin="http://localhost:7")[0] == 200


def test_what_the_page_shows_is_text_and_it_loads_nothing_from_elsewhere() -> None:
    page = write_page(describe(Dream(agent(), starts(agent())), "</script><b>task"))
    assert "<b>task" not in page
    assert "default-src &#39;none&#39;" in page
    assert "src=" not in page
    assert "url(" not in page


def test_the_agent_of_the_package_has_heldout_starts() -> None:
    packed = model_file.read(demo.WEIGHTS).agent
    begun = read_starts(packed, demo.WEIGHTS.parent)
    assert begun.are_heldout
    assert begun.images.shape == (6, 64, 64, 3)
    assert len({image.tobytes() for image in begun.images}) == 6
    for image, row in zip(begun.images, map(Dream(packed, begun).begin, range(6)), strict=True):
        assert np.abs(row.image.astype(float) - image).mean() < 4  # of 255


def listen() -> None:
    """A shell's background jobs, and so their tests, are born deaf to it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_the_command_needs_no_run_and_ends_when_interrupted() -> None:
    command = [sys.executable, "-m", "worldmodel", "dream", "--port", "0", "--no-browser"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=listen,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:")
        assert line.endswith(" dreams of ball_in_cup_catch; Ctrl-C ends this\n")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_folder_that_is_not_a_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dream", str(tmp_path)]) == 2
    assert "so it is not a run" in capsys.readouterr().err


def shown(page: Any) -> np.ndarray:
    """[H, W, 3] the pixels of the page's image"""
    png = page.evaluate("document.getElementById('image').toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(png.partition(",")[2]))) as image:
        return np.array(image.convert("RGB"))


def wait_until(page: Any, true: str) -> None:
    """Playwright's own wait evaluates a string in the page, which the page's policy forbids."""
    for _ in range(600):
        if page.evaluate(true):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"not in 30 s: {true}")


def open_paused(browser: Any, address: str, width: int, scheme: str) -> tuple[Any, list[str]]:
    """The page at its first image, and what the browser complains about."""
    messages: list[str] = []
    viewport = {"width": width, "height": 844}
    # a reader who wants less motion gets a page that waits
    page = browser.new_page(color_scheme=scheme, viewport=viewport, reduced_motion="reduce")
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(address)
    wait_until(page, "state.row !== null")
    return page, messages


def after_a_key(page: Any, key: str) -> np.ndarray:
    """Begin again, hold a key for three rows, and return the image."""
    page.click("#again")
    wait_until(page, "state.row !== null && state.steps === 0")
    page.keyboard.down(key)
    page.click("#pause")
    wait_until(page, "state.steps >= 3")
    page.click("#pause")
    page.keyboard.up(key)
    page.wait_for_timeout(300)
    return shown(page)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_keys_buttons_and_the_agent_change_the_picture(
    browser: Any, width: int, scheme: str
) -> None:
    dream = Dream(agent(), starts(agent()))
    with DreamServer(dream, "a task", 0) as server:
        page, messages = open_paused(browser, server.address, width, scheme)
        first = shown(page)
        assert np.array_equal(first, dream.begin(0).image)
        left, right = after_a_key(page, "ArrowLeft"), after_a_key(page, "ArrowRight")
        assert not np.array_equal(left, right)
        assert not np.array_equal(left, first)
        page.click("#agent")
        page.click("#pause")
        wait_until(page, "state.row.action.every(number => number !== 0 && number !== 1)")
        page.click("#starts button:nth-child(2)")
        wait_until(page, "state.start === 1 && state.row !== null && state.steps > 0")
        across = page.evaluate("document.documentElement.scrollWidth")
        page.close()
    assert messages == []
    assert across <= width


@pytest.mark.browser
def test_a_touch_holds_an_action_until_it_ends(browser: Any) -> None:
    with DreamServer(Dream(agent(), starts(agent())), "a task", 0) as server:
        page, messages = open_paused(browser, server.address, 390, "light")
        box = page.locator(".axis button").nth(1).bounding_box()
        page.mouse.move(box["x"] + 9, box["y"] + 9)
        page.mouse.down()
        assert page.evaluate("chosen()") == [1, 0]
        page.mouse.up()
        assert page.evaluate("chosen()") == [0, 0]
        page.locator(".axis input").nth(1).fill("0.5")
        assert page.evaluate("chosen()") == [0, 0.5]
        page.close()
    assert messages == []


@pytest.mark.browser
def test_choices_are_buttons_and_a_forgotten_dream_says_so(browser: Any) -> None:
    chooser = agent(STACKED)
    with DreamServer(Dream(chooser, starts(chooser)), "a task", 0) as server:
        page, _ = open_paused(browser, server.address, 390, "dark")
        assert page.evaluate("chosen()") == [1, 0, 0]
        page.keyboard.press("ArrowRight")
        assert page.evaluate("chosen()") == [0, 1, 0]
        page.keyboard.press("3")
        assert page.evaluate("chosen()") == [0, 0, 1]
        page.click("#actions button:nth-child(1)")
        assert page.evaluate("chosen()") == [1, 0, 0]
        page.evaluate("state.row.dream = 'another'")
        page.click("#pause")
        wait_until(page, "document.getElementById('words').textContent.includes('forgotten')")
        page.close()
