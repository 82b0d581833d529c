"""Masked autoencoders: what is hidden reaches nothing, and only what is hidden is learned from."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import worldmodel
from worldmodel import checkpoint
from worldmodel.analysis.patches import from_neighbours
from worldmodel.assembly import agent_of
from worldmodel.checks import ConfigError, read
from worldmodel.config import Config
from worldmodel.loop import online
from worldmodel.loop.pretraining import MAE, Pretraining, load_encoder, pretrain
from worldmodel.losses import MaskedPatches
from worldmodel.losses.masked_patches import masked_error, patch_error
from worldmodel.models import WorldModel, build
from worldmodel.models.encoders import MaskedEncoder, MaskedSettings, PretrainedSettings
from worldmodel.models.transformer import Block, sine_positions
from worldmodel.presets import load_preset
from worldmodel.replay import cut, write_episode
from worldmodel.report.attention_sections import how_much_read, show_attention
from worldmodel.report.folder import Folder
from worldmodel.structs import Batch, Episode, Spec

SIZE, CHANNELS, IMAGES = 16, 3, 5
SMALL = MaskedSettings(patch=4, token_size=32, layers=2, patch_features=3)


@pytest.fixture
def encoder() -> MaskedEncoder:
    torch.manual_seed(0)
    return SMALL.build(SIZE, CHANNELS)


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(IMAGES, CHANNELS, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def painted(patches: Tensor, places: Tensor) -> Tensor:
    """The patches with other colours at some places."""
    mask = torch.zeros(patches.shape[:2], dtype=torch.bool).scatter(1, places, True)
    return torch.where(mask[..., None], patches + 3.0, patches)


def test_a_quarter_of_the_patches_is_seen_and_each_is_seen_or_hidden(
    encoder: MaskedEncoder,
) -> None:
    seen, hidden = encoder.choose(IMAGES, random())
    assert seen.shape == (IMAGES, 4)
    every = torch.cat([seen, hidden], 1).sort(1).values
    assert torch.equal(every, torch.arange(16).expand(IMAGES, 16))
    assert not torch.equal(seen[0], seen[1])  # each image has its own


def test_a_hidden_pixel_does_not_change_the_encoding(
    encoder: MaskedEncoder, pixels: Tensor
) -> None:
    patches = encoder.cut(pixels)
    seen, hidden = encoder.choose(IMAGES, random())
    before = encoder.encode(patches, seen)
    assert torch.equal(encoder.encode(painted(patches, hidden), seen), before)
    assert not torch.equal(encoder.encode(painted(patches, seen), seen), before)


def test_an_error_on_seen_patches_changes_nothing(encoder: MaskedEncoder, pixels: Tensor) -> None:
    patches = encoder.cut(pixels)
    seen, hidden = encoder.choose(IMAGES, random())
    drawn = patches + 1.0
    numbers = CHANNELS * SIZE**2  # an error of one on every number, whatever the share hidden
    torch.testing.assert_close(
        patch_error(drawn, patches, hidden), torch.full((IMAGES,), 0.5 * numbers)
    )
    other = patch_error(painted(drawn, seen), patches, hidden)
    assert torch.equal(other, patch_error(drawn, patches, hidden))


def test_patches_come_back_in_their_order(encoder: MaskedEncoder, pixels: Tensor) -> None:
    patches = encoder.cut(pixels)
    assert torch.equal(patches[0, 1], pixels[0, :, 0:4, 4:8].flatten())  # row by row
    assert torch.equal(patches[0, 4], pixels[0, :, 4:8, 0:4].flatten())
    seen, _ = encoder.choose(IMAGES, random())
    places = torch.arange(16).expand(IMAGES, 16)
    features = encoder.read(encoder.tokens_of(patches) + encoder.positions)
    assert torch.equal(encoder(pixels), features.flatten(1))
    torch.testing.assert_close(encoder.encode(patches, places), features)
    # the order in which seen patches are read makes no difference to what is drawn
    turned = seen.flip(1)
    one, other = (encoder.draw(encoder.encode(patches, each), each) for each in (seen, turned))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_every_part_of_the_autoencoder_learns(encoder: MaskedEncoder, pixels: Tensor) -> None:
    masked_error(encoder, pixels, random()).mean().backward()
    still = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def test_attention_is_what_each_head_reads(encoder: MaskedEncoder, pixels: Tensor) -> None:
    weights = encoder.attention(pixels)
    assert weights.shape == (2, IMAGES, 4, 16, 16)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, IMAGES, 4, 16))
    block = Block(32, 4)
    tokens = torch.randn(2, 7, 32)
    _, _, values = block._split(tokens)
    read = (block.weights(tokens) @ values).movedim(1, 2).flatten(2)
    by_hand = tokens + block.join(read)
    torch.testing.assert_close(block(tokens), by_hand + block.net(by_hand))


def test_a_report_shows_attention_where_there_is_some(
    tmp_path: Path, tiny: Config, model: WorldModel
) -> None:
    folder = Folder(tmp_path, (), lambda text: None)
    assert show_attention(folder, agent_of(tiny, model), episode(0).episode) == []
    model = build(masked().model, Spec((SIZE, SIZE, 3), 2))
    assert isinstance(model.encoder, MaskedEncoder)
    looking = agent_of(masked(), model)
    (section,) = show_attention(folder, looking, episode(0).episode)
    assert section.title == "Where it looks"
    assert (tmp_path / "attention.png").exists()
    read = how_much_read(looking, model.encoder, episode(0).episode.image)
    assert read.shape == (2, 12, 4, 4)
    np.testing.assert_allclose(read.mean((2, 3)), 1.0, atol=1e-5)


def test_positions_tell_rows_from_columns() -> None:
    positions = sine_positions(3, 16).reshape(3, 3, 16)
    assert torch.equal(positions[1, 0, :8], positions[1, 2, :8])
    assert torch.equal(positions[0, 1, 8:], positions[2, 1, 8:])
    assert len(torch.unique(positions.flatten(0, 1), dim=0)) == 9


@pytest.mark.parametrize("channels", [1, 3, 6])  # 6: two images in one
def test_neighbours_draw_a_slope_and_keep_what_is_seen(channels: int) -> None:
    encoder = SMALL.build(SIZE, channels)
    slope = torch.linspace(0, 1, SIZE).expand(1, channels, SIZE, SIZE)
    patches = encoder.cut(slope)
    seen, hidden = encoder.choose(1, random())
    drawn = from_neighbours(patches, seen, encoder.patch)
    torch.testing.assert_close(drawn[0, seen[0]], patches[0, seen[0]], atol=1e-3, rtol=0)
    mean = patches[:, seen[0]].mean().expand_as(patches)
    assert patch_error(drawn, patches, hidden) < 0.7 * patch_error(mean, patches, hidden)


def test_the_term_has_the_mean_of_all_rows() -> None:
    config = masked()
    model = build(config.model, Spec((SIZE, SIZE, 3), 2))
    batch = dataclasses.replace(episode(0).window(), valid=torch.ones(1, 12, dtype=torch.bool))
    seen = model.infer(batch, random())
    some = MaskedPatches(weight=2.0, share=0.25)(model, seen, random())["masked_patches"]
    assert some.shape == (1, 12)
    assert int((some > 0).sum()) == 3


@pytest.mark.parametrize(
    ("differences", "complaint"),
    [
        (
            {"model": {"encoder": {"kind": "slim"}}, "objective": {"masked_patches": {}}},
            "objective.masked_patches: needs masked_encoder, and model.encoder (slim) learns none",
        ),
        (
            {"model": {"encoder": {"kind": "pretrained"}}, "objective": {"masked_patches": {}}},
            "objective.masked_patches: needs masked_encoder, and model.encoder (pretrained)",
        ),
        (
            {"model": {"encoder": {"kind": "masked", "patch": 7}}},
            "model.encoder.patch: expected an even number, got 7",
        ),
        (
            {"model": {"encoder": {"kind": "masked", "patch": 10}}},
            "env.image_size: the masked encoder takes two or more whole patches of 10 pixels",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    differences: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        read(Config(), differences)
    assert complaint in str(raised.value)


# --- pretraining


class Rows:
    """An episode of noise around a bright square that moves."""

    def __init__(self, seed: int) -> None:
        noise = np.random.default_rng(seed)
        image = noise.integers(0, 50, (12, SIZE, SIZE, 3)).astype(np.uint8)
        for row in range(12):
            image[row, row : row + 4, 4:8] = 250
        zeros = np.zeros(12, np.float32)
        action = np.zeros((12, 2), np.float32)
        self.episode = Episode(image, action, zeros, zeros + 1, np.ones(12, np.int64))

    def window(self) -> Batch:
        return cut([self.episode], [(0, 0)], 12)


def episode(seed: int) -> Rows:
    return Rows(seed)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "replay"
    folder.mkdir()
    for number in range(3):
        write_episode(folder / f"{number:06d}.npz", episode(number).episode)
    return folder


SETTINGS = MAE(batch=4, encoder=SMALL)


def masked() -> Config:
    return read(
        load_preset("mae"),
        {
            "task": "toy",
            "env": {"image_size": SIZE},
            "model": {"encoder": {"patch": 4, "token_size": 32, "layers": 2, "patch_features": 3}},
        },
    )


def test_pretraining_stops_and_resumes_bit_for_bit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    judged = pretrain(SETTINGS, whole, [data], 6)
    assert judged is not None
    assert set(judged) == {"model", "neighbours", "mean_image"}

    update = Pretraining.update

    def interrupted(self: Pretraining) -> float:
        error = update(self)
        if self.updates == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return error

    with monkeypatch.context() as patch:
        patch.setattr(Pretraining, "update", interrupted)
        assert pretrain(SETTINGS, parts, [data], 6) is None
    write_episode(data / "000003.npz", episode(9).episode)  # newer ones are not read
    assert pretrain(SETTINGS, parts, [data], 6) == judged
    one, other = (checkpoint.load(run / "checkpoints") for run in (whole, parts))
    assert one is not None
    assert other is not None
    for group, tensors in one.tensors.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, other.tensors[group][name]), (group, name)


def test_pretraining_refuses_what_it_cannot_do(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def complaint(settings: MAE, data: list[Path]) -> str:
        with pytest.raises(ConfigError) as raised:
            pretrain(settings, run, data, 1)
        return str(raised.value)

    assert "give --data runs/NAME/replay" in complaint(SETTINGS, [])
    assert "holds no episode such as 000000.npz" in complaint(SETTINGS, [tmp_path / "none"])
    ten = dataclasses.replace(SMALL, patch=10)
    assert "choose another --patch" in complaint(MAE(encoder=ten), [data])
    assert not run.exists()
    pretrain(SETTINGS, run, [data], 1)
    assert "seed: 0 -> 1" in complaint(dataclasses.replace(SETTINGS, seed=1), [data])
    (data / "000002.npz").unlink()
    assert "began with 3 episodes" in complaint(SETTINGS, [data])


def test_a_model_begins_with_the_weights_of_a_pretraining(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pretrain(SETTINGS, run, [data], 1)
    taken = PretrainedSettings(run=str(run), net=dataclasses.replace(SMALL, masked=0.5))
    config = dataclasses.replace(masked().model, encoder=taken)
    model = build(config, Spec((SIZE, SIZE, 3), 2))
    load_encoder(model, taken)
    saved = checkpoint.load_group(run / "checkpoints", "model")
    assert saved is not None
    for name, tensor in saved.items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())
    assert not config.fits_pixels

    def complaint(settings: PretrainedSettings, size: int = SIZE) -> str:
        other = dataclasses.replace(config, encoder=settings)
        with pytest.raises(ConfigError) as raised:
            load_encoder(build(other, Spec((size, size, 3), 2)), settings)
        return str(raised.value)

    assert "give --model.encoder.run" in complaint(PretrainedSettings(net=SMALL))
    assert "is no pretraining" in complaint(dataclasses.replace(taken, run=str(data)))
    wide = dataclasses.replace(SMALL, token_size=64)
    assert "token_size: 32 -> 64" in complaint(dataclasses.replace(taken, net=wide))
    assert "the task's are [32, 32, 3]" in complaint(taken, 32)


@pytest.mark.parametrize("frozen", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_run_needs_its_pretraining_only_once(
    data: Path, tmp_path: Path, frozen: bool, tiny: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "FINAL_EPISODES", 1)
    pretraining, run = tmp_path / "pretraining", tmp_path / "run"
    pretrain(SETTINGS, pretraining, [data], 1)
    encoder = {"kind": "pretrained", "run": str(pretraining), "frozen": frozen}
    config = read(tiny, {"model": {"encoder": encoder}, "env": {"action_repeat": 16}})
    net = dataclasses.replace(config.model.encoder, net=SMALL)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, encoder=net))
    with pytest.raises(ConfigError, match="the task's are"):  # nothing was created
        worldmodel.train(read(config, {"env": {"frames": 2}}), run, steps=100)
    assert not run.exists()
    worldmodel.train(config, run, steps=320)
    before = checkpoint.load_group(pretraining / "checkpoints", "model")
    assert before is not None
    shutil.rmtree(pretraining)  # the run has copied all that it needs
    worldmodel.train(config, run, steps=480)
    model = worldmodel.load(run).model.state_dict()
    for name in ("encoder.tokens.0.weight", "encoder.blocks.0.join.weight"):
        assert torch.equal(model[name], before[name]) == frozen, name
    assert torch.equal(model["pixels.mean"], before["pixels.mean"])
