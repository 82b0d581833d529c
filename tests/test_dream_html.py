"""A dream in one HTML file: its JavaScript computes what the model computes."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from tests.test_dream import (
    COLOUR,
    STACKED,
    agent,
    episode,
    open_paused,
    shown,
    starts,
    wait_until,
)
from worldmodel import demo, model_file
from worldmodel.analysis.starts import read_starts
from worldmodel.checks import ConfigError
from worldmodel.cli import main
from worldmodel.dream import Dream, Row
from worldmodel.dream.one_file import pack, write_html
from worldmodel.dream.page import HERE
from worldmodel.structs import Spec

ROWS = 20
SQUARE = Spec((64, 64, 3), 2)  # the side of PlaNet's images
GREY = Spec((16, 16, 1), 2)
TWO_CAMERAS = Spec((16, 16, 8), 2, frames=2, cameras={"a": (16, 16, 3), "b": (16, 16, 1)})
# Begin at a start, then do the actions; null lets the agent act. Prints the rows.
PROGRAM = """
const { imagination } = require(process.argv[1]);
const { given, start, actions } = JSON.parse(require("fs").readFileSync(0, "utf8"));
(async () => {
  const model = imagination(given), rows = [await model.begin(start)];
  for (const action of actions) rows.push(await model.step(rows.at(-1), action));
  console.log(JSON.stringify(rows.map(row => ({ ...row, state: Array.from(row.state),
    image: Buffer.from(row.image).toString("base64") }))));
})();
"""


@pytest.fixture(scope="session")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("needs node, which runs JavaScript outside a browser")
    return found


def in_javascript(
    node: str, dream: Dream, start: int, actions: Sequence[Sequence[float] | None]
) -> list[dict[str, Any]]:
    given = {"model": pack(dream), "actions": dream.spec.action_size}
    asked = json.dumps({"given": given, "start": start, "actions": actions})
    command = [node, "-e", PROGRAM, str(HERE / "model.js")]
    ended = subprocess.run(command, input=asked, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    rows: list[dict[str, Any]] = json.loads(ended.stdout)
    for row in rows:
        flat = np.frombuffer(base64.b64decode(row["image"]), np.uint8)
        row["image"] = flat.reshape(dream.starts.images.shape[1:])
    return rows


def in_python(dream: Dream, start: int, actions: Sequence[Sequence[float] | None]) -> list[Row]:
    rows = [dream.begin(start)]
    for action in actions:
        rows.append(dream.let_act(rows[-1]) if action is None else dream.step(rows[-1], action))
    return rows


def some_actions(spec: Spec) -> list[list[float]]:
    return [action.tolist() for action in episode(spec, ROWS, seed=7).action]


def compare(rows: Sequence[dict[str, Any]], expected: Sequence[Row]) -> None:
    """Images differ by at most one of 255 levels, other numbers by a thousandth."""
    assert len(rows) == len(expected)
    for row, true in zip(rows, expected, strict=True):
        assert np.abs(row["image"].astype(int) - true.image).max() <= 1
        assert np.allclose(row["state"], true.belief.features[0], atol=1e-3)
        assert np.allclose(row["action"], true.action, atol=1e-3)
        for head in ("reward", "value", "goes_on"):
            number = getattr(true, head)
            if number is None:
                assert row[head] is None
            else:
                assert row[head] == pytest.approx(number, rel=1e-3, abs=1e-3)


KINDS = {
    "default": (COLOUR, {}),
    "choices, vectors, two images": (STACKED, {}),
    "grey": (GREY, {}),
    "two cameras, two images each": (TWO_CAMERAS, {}),
    "plain": (COLOUR, {"layers": "plain", "reward": {"kind": "normal", "layers": 2, "size": 6}}),
    "PlaNet's decoder": (SQUARE, {"decoder": {"kind": "planet", "width": 2}}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_javascript_dreams_what_the_model_dreams(node: str, kind: str) -> None:
    spec, settings = KINDS[kind]
    of = agent(spec, **settings)
    dream = Dream(of, starts(of))
    actions = some_actions(spec)
    rows = in_javascript(node, dream, 1, actions)
    compare(rows, in_python(dream, 1, actions))
    assert not np.array_equal(rows[-1]["image"], rows[0]["image"])


def test_without_heads_and_policy_there_are_images_only(node: str) -> None:
    of = agent(policy=None, value=None)
    dream = Dream(of, starts(of))
    actions = some_actions(COLOUR)
    rows = in_javascript(node, dream, 0, actions)
    compare(rows, in_python(dream, 0, actions))
    assert rows[-1]["value"] is None


def packaged() -> Dream:
    of = model_file.read(demo.WEIGHTS).agent
    return Dream(of, read_starts(of, demo.WEIGHTS.parent))


def test_the_agent_of_the_package_acts_alike_in_javascript(node: str) -> None:
    dream = packaged()
    actions = [[1.0, 0.5]] * 5 + [[-0.5, 0.0]] * 5 + [None] * 10
    rows, expected = in_javascript(node, dream, 2, actions), in_python(dream, 2, actions)
    compare(rows, expected)


def test_weights_of_a_model_file_stay_in_eight_bits_and_others_have_sixteen() -> None:
    def kinds(dream: Dream, least: int = 1) -> set[str]:
        """The kinds of matrices of this many numbers at least."""
        matrices = (each for each in pack(dream)["tensors"] if len(each["shape"]) in (2, 4))
        return {each["kind"] for each in matrices if np.prod(each["shape"]) >= least}

    of = agent()
    assert kinds(Dream(of, starts(of))) == {"int16"}
    assert kinds(packaged(), least=model_file.SMALLEST) == {"int8"}


def test_a_part_that_the_page_does_not_know_is_named_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    class Blur(nn.Module):
        pass

    of = agent()
    of.model.decoder.net[1] = Blur()
    with pytest.raises(ConfigError, match=r"^html: Blur has no plain operations"):
        write_html(Dream(of, starts(of)), "a task", tmp_path / "dream.html")
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_one_file_of_a_few_megabytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "dream.html"
    assert main(["dream", "--html", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    assert 2e6 < path.stat().st_size < 4e6
    assert [file.name for file in tmp_path.iterdir()] == ["dream.html"]
    page = path.read_text()
    assert "src=" not in page
    assert "connect-src" not in page  # the browser lets it ask nobody
    assert main(["dream", "--html", str(tmp_path / "dream.txt")]) == 2
    assert main(["dream", "--html", str(tmp_path)]) == 2


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_file_dreams_in_a_browser_alone(
    browser: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    dream = packaged()
    write_html(dream, "ball_in_cup_catch", tmp_path / "dream.html")
    address = (tmp_path / "dream.html").as_uri()
    page, messages = open_paused(browser, address, width, scheme)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    assert np.abs(shown(page).astype(int) - dream.begin(0).image).max() <= 1
    page.keyboard.down("ArrowRight")
    page.click("#pause")
    wait_until(page, "state.steps >= 10")
    page.click("#pause")
    page.keyboard.up("ArrowRight")
    page.wait_for_timeout(300)
    steps = int(page.inner_text("#steps"))
    assert (
        np.abs(shown(page).astype(int) - in_python(dream, 0, [[1, 0]] * steps)[-1].image).max() <= 1
    )
    page.click("#agent")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()
    assert messages == []
    assert asked == []
