from __future__ import annotations

import math
from typing import cast

import pytest
import torch
from torch import Tensor, distributions, nn

from worldmodel.checks import read
from worldmodel.config import Config
from worldmodel.models import WorldModel, build
from worldmodel.models.dynamics.recurrent import RecurrentSettings
from worldmodel.models.encoders import MLPEncoder, PatchEncoder
from worldmodel.models.heads import Bernoulli, Constant, Normal, TwoHot, symexp, symlog
from worldmodel.models.latents import Point, Remembered
from worldmodel.models.layers import GRUCell, Layers, NormedGRUCell, normed, plain
from worldmodel.models.pixels import ENERGY, Pixels
from worldmodel.models.policy import Policy
from worldmodel.models.posteriors import FilterSettings
from worldmodel.models.roll import follow_images
from worldmodel.presets import load_preset
from worldmodel.structs import Spec, at, leaves

B, T, A, E, D, S = 2, 5, 3, 7, 11, 4
VALID = torch.ones(B, T, dtype=torch.bool)


class Filtered(nn.Module):
    """Recurrent dynamics and a filter, and the verbs that need both."""

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        settings = RecurrentSettings(deter_size=D, stoch_size=S, hidden_size=9)
        self.dynamics = settings.build(A, layers, (16, 16, 3))
        self.posterior = FilterSettings(hidden_size=9).build(D, E, A, 2 * S, layers)

    def observe(self, action: Tensor, embed: Tensor, noise: Tensor) -> tuple[Tensor, Remembered]:
        begin = self.dynamics.initial(B)
        evidence = self.posterior.evidence(embed, action, VALID)
        followed = follow_images(self.dynamics, self.posterior, begin, action, evidence, noise)
        return cast(tuple[Tensor, Remembered], followed)

    def observe_step(
        self, latent: Remembered, action: Tensor, embed: Tensor, noise: Tensor
    ) -> Remembered:
        context = self.dynamics.remember(latent, action)
        evidence = self.posterior.evidence(embed, action, VALID[:, 0])
        statistics = self.posterior.correct(context, evidence)
        return self.dynamics.believe(context, statistics, noise)


@pytest.fixture(params=["normed", "plain"])
def filtered(request: pytest.FixtureRequest) -> Filtered:
    return Filtered(request.param)


def window() -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(B, T, A), torch.randn(B, T, E), torch.randn(B, T, S)


def test_observing_all_at_once_is_observing_step_by_step(filtered: Filtered) -> None:
    action, embed, noise = window()
    _, together = filtered.observe(action, embed, noise)
    latent = filtered.dynamics.initial(B)
    for t in range(T):
        latent = filtered.observe_step(latent, action[:, t], embed[:, t], noise[:, t])
        torch.testing.assert_close(at(together, (slice(None), t)).features, latent.features)


def test_a_filter_is_one_network_of_context_and_embedding() -> None:
    """Its weights are those of one layer, drawn together and kept as two matrices."""
    torch.manual_seed(5)
    net = nn.Sequential(plain(D + E, 9), nn.Linear(9, 2 * S))
    torch.manual_seed(5)
    posterior = FilterSettings(hidden_size=9).build(D, E, A, 2 * S, "plain")
    context, embed = torch.randn(B, D), torch.randn(B, E)
    evidence = posterior.evidence(embed, torch.zeros(B, A), VALID[:, 0])
    statistics = posterior.correct(context, evidence)
    torch.testing.assert_close(statistics, net(torch.cat([context, embed], -1)))


def test_an_image_never_changes_the_past(filtered: Filtered) -> None:
    action, embed, noise = window()
    _, before = filtered.observe(action, embed, noise)
    embed[:, 3] += 1.0
    _, after = filtered.observe(action, embed, noise)
    assert torch.equal(before.features[:, :3], after.features[:, :3])
    changed = ~torch.isclose(before.stoch.features[:, 3:], after.stoch.features[:, 3:])
    assert changed.any()


def test_the_prior_never_sees_its_own_image(filtered: Filtered) -> None:
    action, embed, noise = window()
    prior = filtered.dynamics.imagine(filtered.observe(action, embed, noise)[0], None)
    embed[:, 3] += 1.0
    blind = filtered.dynamics.imagine(filtered.observe(action, embed, noise)[0], None)
    assert torch.equal(prior.features[:, :4], blind.features[:, :4])
    assert not torch.equal(prior.features[:, 4], blind.features[:, 4])


def test_windows_of_a_batch_do_not_mix(filtered: Filtered) -> None:
    action, embed, noise = window()
    _, before = filtered.observe(action, embed, noise)
    action[1] += 1.0
    embed[1] += 1.0
    _, after = filtered.observe(action, embed, noise)
    assert torch.equal(before.features[0], after.features[0])
    assert not torch.isclose(before.features[1], after.features[1]).all()


def test_imagining_is_observing_without_an_image(filtered: Filtered) -> None:
    action, embed, noise = window()
    dynamics, latent = filtered.dynamics, filtered.dynamics.initial(B)
    imagined = dynamics.imagine(dynamics.remember(latent, action[:, 0]), noise[:, 0])
    observed = filtered.observe_step(latent, action[:, 0], embed[:, 0], noise[:, 0])
    assert torch.equal(imagined.deter, observed.deter)
    expected = dynamics.imagine(observed.deter, None)
    assert torch.equal(leaves(imagined)["stoch.mean"], leaves(expected)["stoch.mean"])
    assert not torch.equal(imagined.stoch.features, observed.stoch.features)


def test_without_noise_the_latent_is_the_mean(filtered: Filtered) -> None:
    dynamics = filtered.dynamics
    latent = dynamics.imagine(dynamics.remember(dynamics.initial(B), torch.randn(B, A)), None)
    parts = leaves(latent)
    assert torch.equal(parts["stoch.sample"], parts["stoch.mean"])
    assert (parts["stoch.std"] > 0.1).all()


def test_a_flat_state_steps_as_the_mean_is_imagined(filtered: Filtered) -> None:
    dynamics, action = filtered.dynamics, torch.randn(B, A)
    latent = dynamics.imagine(dynamics.remember(dynamics.initial(B), torch.randn(B, A)), None)
    ahead = dynamics.imagine(dynamics.remember(latent, action), None)
    torch.testing.assert_close(dynamics.step(dynamics.state(latent), action), ahead.features)


def test_imagining_a_sequence_is_imagining_its_steps(model: WorldModel) -> None:
    dynamics = model.dynamics
    actions = torch.randn(B, 4, 2)
    noise = torch.randn(B, 4, dynamics.noise_size)
    latent = dynamics.initial(B)
    together = model.imagine(latent, actions, noise)
    for step in range(4):
        latent = dynamics.imagine(dynamics.remember(latent, actions[:, step]), noise[:, step])
    torch.testing.assert_close(together.features[:, -1], latent.features)
    assert together.features.shape == (B, 4, dynamics.feature_size)


def test_the_published_cell_is_computed_by_its_equations() -> None:
    cell = GRUCell(2, 3)
    x, h = torch.randn(5, 2), torch.randn(5, 3)
    wr, wz = cell.gates.weight.chunk(2)
    br, bz = cell.gates.bias.chunk(2)
    r = torch.sigmoid(torch.cat([x, h], 1) @ wr.T + br)
    z = torch.sigmoid(torch.cat([x, h], 1) @ wz.T + bz)
    c = torch.tanh(torch.cat([x, r * h], 1) @ cell.candidate.weight.T + cell.candidate.bias)
    torch.testing.assert_close(cell(x, h), z * h + (1 - z) * c)


def test_a_new_cell_mostly_keeps_its_state() -> None:
    h = torch.full((1, 3), 0.9)
    for cell in (GRUCell(2, 3), NormedGRUCell(2, 3)):
        kept = (cell(torch.zeros(1, 2), h) / h).mean()
        assert 0.4 < kept < 1.1


def test_planet_has_the_published_shapes_and_counts() -> None:
    config = load_preset("planet")
    action_size = 6
    model = build(config.model, Spec((64, 64, 3), action_size))

    def count(part: torch.nn.Module) -> int:
        return sum(p.numel() for p in part.parameters())

    convolutions = [(3, 32, 4), (32, 64, 4), (64, 128, 4), (128, 256, 4)]
    assert count(model.encoder) == sum(i * o * k * k + o for i, o, k in convolutions)
    assert model.encoder(torch.zeros(2, 3, 64, 64)).shape == (2, 1024)
    transposed = [(1024, 128, 5), (128, 64, 5), (64, 32, 6), (32, 3, 6)]
    decoder = (230 + 1) * 1024 + sum(i * o * k * k + o for i, o, k in transposed)
    assert count(model.decoder) == decoder
    assert model.decoder(Point(torch.zeros(2, 230))).shape == (2, 3, 64, 64)
    join = (30 + action_size + 1) * 200
    cell = 3 * (200 + 200 + 1) * 200
    prior = (200 + 1) * 200 + (200 + 1) * 60
    posterior = (200 + 1024 + 1) * 200 + (200 + 1) * 60
    assert count(model.dynamics) == join + cell + prior
    assert count(model.posterior) == posterior
    assert count(model.reward) == (230 + 1) * 200 + (200 + 1) * 200 + 201
    assert model.policy is None
    assert count(model.value) == 0


@pytest.mark.parametrize("kind", ["patch", "slim"])
@pytest.mark.parametrize("size", [16, 32, 64, 96])
def test_slim_and_patch_take_every_multiple_of_16(tiny: Config, size: int, kind: str) -> None:
    sizes = read(tiny.model, {"encoder": {"kind": kind}})
    model = build(sizes, Spec((size, size, 6), 1))
    image = torch.randint(0, 256, (2, 3, size, size, 6), dtype=torch.uint8)
    embed = model.embed(image)
    assert embed.shape == (2, 3, model.encoder.embed_size)
    assert model.decode(model.dynamics.initial(2, 3)).shape == image.shape


@pytest.mark.parametrize("size", [9, 40])
def test_dense_encoder_and_decoder_take_every_size(tiny: Config, size: int) -> None:
    settings = {"encoder": {"kind": "mlp", "width": 5}, "decoder": {"kind": "mlp", "width": 7}}
    model = build(read(tiny.model, settings), Spec((size, size, 3), 1))
    image = torch.randint(0, 256, (2, 3, size, size, 3), dtype=torch.uint8)
    assert model.embed(image).shape == (2, 3, 5)
    assert model.decode(model.dynamics.initial(2, 3)).shape == image.shape


def test_the_dense_encoder_leaves_no_pixel_out() -> None:
    encoder = MLPEncoder(size=9, channels=3, width=50, layers=2)
    image = torch.randn(1, 3, 9, 9, requires_grad=True)
    encoder(image).sum().backward()
    assert image.grad is not None
    assert bool((image.grad != 0).all())


def test_patches_are_equal_for_any_memory_layout_of_the_image() -> None:
    encoder = PatchEncoder(size=32, channels=3, width=2)
    apart = torch.randn(4, 3, 32, 32)
    laced = apart.to(memory_format=torch.channels_last)
    torch.testing.assert_close(encoder(laced), encoder(apart))


def test_patches_leave_no_pixel_out() -> None:
    encoder = PatchEncoder(size=32, channels=3, width=2)
    image = torch.randn(1, 3, 32, 32, requires_grad=True)
    encoder(image).sum().backward()
    assert image.grad is not None
    assert bool((image.grad != 0).all())


def test_bytes_to_floats_and_back_are_the_same_bytes() -> None:
    pixels = Pixels(4, 3, bits=8)
    image = torch.arange(192, dtype=torch.uint8).reshape(1, 4, 4, 12)[..., :3].contiguous()
    assert torch.equal(pixels.to_bytes(pixels(image)), image)
    pixels.fit(torch.randint(0, 256, (9, 4, 4, 3), dtype=torch.uint8))
    assert torch.equal(pixels.to_bytes(pixels(image)), image)


def test_axes_of_an_image_are_not_swapped() -> None:
    image = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    image[0, 1, 2, 0] = 255
    floats = Pixels(4, 3, bits=8)(image)
    assert floats.shape == (1, 3, 4, 4)
    assert floats[0, 0, 1, 2] == 0.5
    assert (floats == 0.5).sum() == 1


def test_fitted_pixels_are_centred_and_the_mean_image_costs_the_same_everywhere() -> None:
    images = torch.randint(0, 50, (99, 4, 4, 3), dtype=torch.uint8)
    pixels = Pixels(4, 3, bits=8)
    pixels.fit(images)
    seen = pixels(images)
    assert seen.mean(0).abs().max() < 1e-4
    torch.testing.assert_close(
        seen.square().sum((1, 2, 3)).mean(), torch.tensor(ENERGY), rtol=1e-3, atol=0
    )


def test_five_bits_leave_32_levels_spread_over_their_bins() -> None:
    pixels = Pixels(16, 3, bits=5)
    image = torch.arange(768, dtype=torch.int64).remainder(256).byte().reshape(16, 16, 3)
    levels = pixels(image)
    assert len(levels.unique()) == 32
    assert levels.min() == -0.5
    torch.testing.assert_close(levels.max(), torch.tensor(0.5))
    moved = pixels.dither(levels, torch.Generator().manual_seed(0)) - levels
    assert moved.min() < -0.49 / 32
    assert moved.max() > 0.49 / 32
    assert moved.abs().max() <= 0.5 / 32 + 1e-6  # float32 at one half


@pytest.mark.parametrize("bins", [101, 255])
def test_twohot_begins_at_exactly_zero(bins: int) -> None:
    head = TwoHot(4, 2, 8, normed, bins)
    assert len(head.centers) == bins
    assert torch.equal(head(torch.randn(6, 4)), torch.zeros(6))


@pytest.mark.parametrize("bins", [101, 255])
@pytest.mark.parametrize("value", [-300.0, -1.0, -0.013, 0.0, 0.2, 1.0, 7.3, 1000.0])
def test_twohot_decodes_what_it_encodes(value: float, bins: int) -> None:
    head = TwoHot(4, 1, 8, normed, bins)
    weights = head.encode(torch.tensor([value]))
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0))
    assert (weights > 0).sum() <= 2
    torch.testing.assert_close(
        head.decode(weights.log()), torch.tensor([value]), rtol=1e-3, atol=1e-4
    )


def test_symlog_and_symexp_undo_each_other() -> None:
    x = torch.tensor([-50.0, -0.1, 0.0, 0.1, 50.0])
    torch.testing.assert_close(symexp(symlog(x)), x)


def test_log_probabilities_are_those_of_torch() -> None:
    features, target = torch.randn(5, 4), torch.rand(5)
    normal = Normal(4, 2, 8, plain)
    torch.testing.assert_close(
        normal.log_prob(features, target),
        distributions.Normal(normal(features), 1.0).log_prob(target),
    )
    bernoulli = Bernoulli(4, 2, 8, plain)
    torch.testing.assert_close(
        bernoulli.log_prob(features, target.round()),
        distributions.Bernoulli(probs=bernoulli(features)).log_prob(target.round()),
    )
    assert torch.equal(Constant(1.0)(features), torch.ones(5))


def test_twohot_learns_the_mean_of_its_targets() -> None:
    head = TwoHot(1, 1, 8, normed)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    features = torch.ones(64, 1)
    target = torch.full((64,), 3.0)
    for _ in range(60):
        optimizer.zero_grad()
        (-head.log_prob(features, target).mean()).backward()
        optimizer.step()
    torch.testing.assert_close(head(features[:1]), torch.tensor([3.0]), rtol=0.02, atol=0)


def test_gain_scales_an_encoders_initial_weights(tiny: Config) -> None:
    def answer(gain: float) -> torch.Tensor:
        torch.manual_seed(0)
        louder = build(read(tiny.model, {"encoder_gain": gain}), Spec((16, 16, 3), A))
        rows = torch.randn(5, 3, 16, 16)
        with torch.no_grad():
            for name, bias in louder.encoder.named_parameters():
                if name.endswith("bias"):
                    bias.zero_()
        return louder.encoder.net[0](rows)

    torch.testing.assert_close(answer(3.0), 3 * answer(1.0))


def test_draw_and_act_give_the_same_action() -> None:
    policy = Policy(4, A, 1, 8, normed)
    torch.nn.init.normal_(policy.last.weight)
    features, noise = torch.randn(50, 4), torch.randn(50, A)
    drawn = policy.draw(features, noise)
    assert torch.equal(drawn.action, policy.act(features, noise))
    assert torch.equal(drawn.spread, policy(features)[1])


@pytest.mark.parametrize(("saturation", "learns"), [(0.1, True), (0.0, False)])
def test_a_saturated_policy_can_still_learn(saturation: float, learns: bool) -> None:
    """The policy begins at action 1 with the smallest std; -0.5 is best.

    With the weight on saturation it learns that action, without it never.
    """
    torch.manual_seed(0)
    policy = Policy(4, 1, 1, 8, normed)
    with torch.no_grad():
        policy.last.bias.copy_(torch.tensor([9.0, -12.0]))
    optimizer = torch.optim.Adam(policy.parameters(), 1e-2, eps=1e-5)  # as the learner
    features = torch.randn(64, 4)
    for _ in range(600):
        action, spread, saturated = policy.draw(features, torch.randn(64, 1))
        gain = -(action[:, 0] + 0.5).square() + 1e-3 * policy.entropy(spread)
        optimizer.zero_grad()
        (saturation * saturated - gain).mean().backward()
        optimizer.step()
    mean, _ = policy(features)
    assert ((mean + 0.5).abs().max() < 0.1) == learns


def test_saturation_begins_where_slopes_vanish() -> None:
    policy = Policy(4, 1, 1, 8, normed)
    features, noise = torch.randn(1, 4), torch.zeros(1, 1)
    for mean, std, saturation in (
        (2.0, 1.0, 0.0),
        (-2.0, -5.0, 0.0),
        (-3.0, 1.0, 1.0),
        (5.0, -7.0, 13.0),
    ):
        with torch.no_grad():
            policy.last.bias.copy_(torch.tensor([mean, std]))
        assert policy.draw(features, noise).saturation.item() == pytest.approx(saturation)


def test_a_policy_stays_in_its_limits_and_knows_its_entropy() -> None:
    policy = Policy(4, A, 1, 8, normed)
    features = torch.randn(50, 4)
    assert policy.act(features, 9 * torch.randn(50, A)).abs().max() <= 1.0
    mean, std = policy(features)
    assert torch.equal(policy.act(features, None), mean)
    expected = distributions.Normal(mean, std).entropy().sum(-1)
    torch.testing.assert_close(policy.entropy(std), expected)
    assert std.min() > 0.1
    assert policy.entropy(torch.ones(1)).item() == pytest.approx(
        0.5 * math.log(2 * math.pi * math.e)
    )


def test_the_slow_value_follows(model: WorldModel) -> None:
    with torch.no_grad():
        for parameter in model.value.parameters():
            parameter.fill_(1.0)
        for parameter in model.slow_value.parameters():
            parameter.fill_(0.0)
    model.follow_value(0.25)
    for parameter in model.slow_value.parameters():
        assert torch.equal(parameter, torch.full_like(parameter, 0.25))
        assert not parameter.requires_grad
