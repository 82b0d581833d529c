import copy
import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from worldmodel import checkpoint
from worldmodel.checkpoint import Made, load, load_group, save, verify
from worldmodel.checks import ConfigError
from worldmodel.structs import Spec


def numbers(step: int) -> dict[str, dict[str, Tensor]]:
    """Groups whose every element is the step."""
    return {
        "model": {"weight": torch.full((2, 3), float(step)), "bias": torch.full((5,), step)},
        "acting": {"belief": torch.full((4,), step, dtype=torch.int64)},
    }


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir())


def check_whole(loaded: checkpoint.Checkpoint | None, step: int) -> None:
    assert loaded is not None
    assert loaded.step == step
    assert loaded.state == {"step": step}
    for group, named in numbers(step).items():
        for name, tensor in named.items():
            assert torch.equal(loaded.tensors[group][name], tensor)


def test_what_is_saved_is_loaded(tmp_path):
    path = save(tmp_path / "run" / "checkpoints", 1234, numbers(1234), {"step": 1234})
    assert path == tmp_path / "run" / "checkpoints" / "000001234"
    check_whole(load(path.parent), 1234)
    assert verify(path) == verify(path.parent) == []
    assert torch.equal(load_group(path.parent, "acting")["belief"], torch.full((4,), 1234))


def test_a_run_without_checkpoints_has_none(tmp_path):
    assert load(tmp_path / "nowhere") is None
    assert load_group(tmp_path, "model") is None


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([1.0, -0.0, float("nan"), float("inf"), 1e-30]).bfloat16(),
        torch.tensor(2**62 + 1),
        torch.tensor(0.1, dtype=torch.float64),
        torch.tensor([True, False]),
        torch.arange(6, dtype=torch.uint8).reshape(2, 3).T,
        torch.arange(12.0).reshape(3, 4)[:, ::2],
        torch.tensor([3.0]).expand(4, 2),
        torch.zeros(0, 3),
    ],
    ids=["bfloat16", "int64", "float64", "bool", "transposed", "strided", "expanded", "empty"],
)
def test_any_tensor_is_restored_exactly(tmp_path, tensor):
    save(tmp_path, 1, {"model": {"it": tensor, "again": tensor, "empty group": tensor}}, {})
    back = load(tmp_path).tensors["model"]["it"]
    assert back.dtype == tensor.dtype
    assert back.shape == tensor.shape
    raw = [t.contiguous().reshape(-1).view(torch.uint8) for t in (back, tensor)]
    assert torch.equal(*raw)


def test_a_parameter_with_a_gradient_and_a_shared_one_are_saved(tmp_path):
    layer = torch.nn.Linear(2, 3)
    layer.other = layer.weight
    save(tmp_path, 1, {"model": layer.state_dict(keep_vars=True), "nothing": {}}, {})
    back = load(tmp_path).tensors
    assert torch.equal(back["model"]["other"], layer.weight)
    assert back["nothing"] == {}


def test_state_is_restored_exactly(tmp_path):
    state = {"a": [1, 2.5, None, True, "ü"], "big": 2**127 + 1, "third": 1 / 3, "bad": float("inf")}
    save(tmp_path, 1, {}, state)
    assert load(tmp_path).state == state


def test_only_the_newest_are_kept(tmp_path):
    for step in (3, 10, 200, 1_000_000_000):
        save(tmp_path, step, numbers(step), {"step": step}, keep=2)
    assert steps_in(tmp_path) == [200, 1_000_000_000]
    check_whole(load(tmp_path), 1_000_000_000)


def test_saving_the_same_step_again_replaces_it(tmp_path):
    for value in (1, 2):
        save(tmp_path, 7, {"model": {"it": torch.tensor(value)}}, {"value": value})
    assert steps_in(tmp_path) == [7]
    assert load(tmp_path).state == {"value": 2}


def test_a_run_resumed_from_an_older_checkpoint_ignores_the_later_ones(tmp_path):
    for step in (10, 20, 30):
        save(tmp_path, step, numbers(step), {"step": step})
    path = tmp_path / "000000030" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")  # its size says nothing
    check_whole(load(tmp_path), 20)
    save(tmp_path, 25, numbers(25), {"step": 25}, keep=2)
    assert steps_in(tmp_path) == [20, 25]
    check_whole(load(tmp_path), 25)


def test_a_broken_one_is_not_counted_among_the_kept(tmp_path):
    for step in (1, 2):
        save(tmp_path, step, numbers(step), {"step": step}, keep=2)
    (tmp_path / "000000002" / "state.json").unlink()
    save(tmp_path, 3, numbers(3), {"step": 3}, keep=2)
    assert steps_in(tmp_path) == [1, 3]


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_broken_newest_one_is_named_and_the_one_before_is_used(tmp_path, caplog, name, damage):
    for step in (1, 2):
        save(tmp_path, step, numbers(step), {"step": step})
    path = tmp_path / "000000002" / name
    content = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(content[:-3])
    else:
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    with caplog.at_level(logging.WARNING, logger="worldmodel"):
        check_whole(load(tmp_path), 1)
    assert "000000002" in caplog.text
    assert name in caplog.text
    complaints = verify(tmp_path)
    assert len(complaints) == 1
    assert "000000002" in complaints[0]
    assert verify(tmp_path / "000000001") == []


def test_every_flipped_bit_of_a_file_is_detected(tmp_path):
    save(tmp_path, 5, numbers(5), {"step": 5}, made=MADE)
    for path in (tmp_path / "000000005").iterdir():
        whole = path.read_bytes()
        for place in range(len(whole)):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << (place % 8)
            path.write_bytes(flipped)
            if verify(tmp_path):
                continue
            assert path.name == "manifest.json"  # a blank that became another blank
            check_whole(load(tmp_path), 5)
        path.write_bytes(whole)
    assert verify(tmp_path) == []


def test_when_none_is_whole_it_says_so(tmp_path):
    save(tmp_path, 5, numbers(5), {})
    (tmp_path / "000000005" / "manifest.json").write_text("{}")
    with pytest.raises(RuntimeError, match="none is whole; restore"):
        load(tmp_path)
    with pytest.raises(RuntimeError, match="none is whole; restore"):
        load_group(tmp_path, "model")


def test_a_format_of_the_future_is_refused(tmp_path, caplog):
    path = save(tmp_path, 5, numbers(5), {}) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 9}))
    with pytest.raises(RuntimeError, match="none is whole"):
        load(tmp_path)
    assert "format 9" in caplog.text


MADE = Made(
    Spec((16, 16, 3), 2, vectors={"joints": 3}), {"dynamics": "recurrent", "planner": "mppi"}
)


def test_what_weights_were_made_for_is_known_before_they_are_read(tmp_path):
    path = save(tmp_path, 5, numbers(5), {"step": 5}, made=MADE)
    check_whole(load(tmp_path, made=MADE), 5)
    for fitting in (Made(), Made(MADE.spec), Made(parts={"planner": "mppi", "decoder": "slim"})):
        assert load_group(tmp_path, "model", made=fitting) is not None
    (path / "model.safetensors").write_bytes(b"")
    for other, sentence in (
        (Made(parts={"dynamics": "one_step"}), "made with dynamics = recurrent, and one_step is"),
        (Made(Spec((16, 16, 3), 2)), r"made with spec\.vectors = {'joints': 3}, and {} is asked"),
        (Made(Spec((16, 16, 3), 4)), r"made with spec\.action_size = 2, and 4 is asked for"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            load(tmp_path, made=other)
        with pytest.raises(ConfigError, match=sentence):
            load_group(tmp_path, "model", made=other)


def test_an_unknown_model_fits_any_request(tmp_path):
    save(tmp_path, 5, numbers(5), {"step": 5})
    check_whole(load(tmp_path, made=MADE), 5)


def into_format_1(path: Path) -> None:
    """What a manifest of version 0.1.0 said, which had neither spec nor parts."""
    manifest = json.loads((path / "manifest.json").read_text())
    old = {"format": 1, "step": manifest["step"], "files": manifest["files"]}
    (path / "manifest.json").write_text(json.dumps(old, indent=1))


def test_format_1_is_read_and_its_weights_get_todays_names(tmp_path):
    old = {
        "dynamics.prior.0.0.weight": torch.zeros(4, 3),  # of a context of three
        "dynamics.posterior.0.0.weight": torch.arange(20.0).reshape(4, 5),
        "dynamics.posterior.0.0.bias": torch.ones(4),
        "dynamics.posterior.1.weight": torch.full((6, 4), 2.0),
        "dynamics.posterior.1.bias": torch.full((6,), 3.0),
    }
    groups = {"model": old, "averaged": old, "acting": old, "optimizer": old}
    into_format_1(save(tmp_path, 5, groups, {"step": 5}))
    assert verify(tmp_path) == []
    loaded = load(tmp_path, made=MADE)
    for group in ("model", "averaged", "acting"):
        weights = loaded.tensors[group]
        assert weights.keys() == {
            "dynamics.prior.0.0.weight",
            "posterior.of_context.weight",
            "posterior.of_embed.weight",
            "posterior.of_embed.bias",
            "posterior.rest.1.weight",
            "posterior.rest.1.bias",
        }
        halves = weights["posterior.of_context.weight"], weights["posterior.of_embed.weight"]
        assert torch.equal(torch.cat(halves, 1), old["dynamics.posterior.0.0.weight"])
    assert loaded.tensors["optimizer"].keys() == old.keys()
    assert load_group(tmp_path, "averaged").keys() == loaded.tensors["averaged"].keys()


def test_one_group_needs_only_its_own_file_and_the_state(tmp_path):
    path = save(tmp_path, 5, numbers(5), {"env_steps": 7})
    (path / "acting.safetensors").unlink()
    assert load(tmp_path, group="model").state == {"env_steps": 7}
    assert set(load_group(tmp_path, "model")) == {"weight", "bias"}
    with pytest.raises(RuntimeError, match=r"no group optimizer; its files: .*model"):
        load_group(tmp_path, "optimizer")


def test_a_checkpoint_that_is_removed_while_it_is_read_is_not_missed(tmp_path, monkeypatch, caplog):
    save(tmp_path, 1, numbers(1), {"step": 1})
    read = checkpoint._read

    def read_late(path: Path, *others: object) -> checkpoint.Checkpoint:
        if path.name == "000000001":  # meanwhile the run saves another
            save(tmp_path, 2, numbers(2), {"step": 2}, keep=1)
        return read(path, *others)

    monkeypatch.setattr(checkpoint, "_read", read_late)
    check_whole(load(tmp_path), 2)
    assert caplog.text == ""


@pytest.mark.parametrize("call", range(6))
def test_a_save_that_fails_leaves_the_one_before(tmp_path, monkeypatch, call):
    save(tmp_path, 1, numbers(1), {"step": 1})
    calls = 0
    fsync = os.fsync

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls > call:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            save(tmp_path, 2, numbers(2), {"step": 2}, keep=1)
    files = 5  # model, acting, state, manifest, and the directory; the sixth comes after the rename
    check_whole(load(tmp_path), 1 if call < files else 2)
    assert verify(tmp_path) == []
    assert 1 in steps_in(tmp_path)
    save(tmp_path, 3, numbers(3), {"step": 3}, keep=1)
    assert steps_in(tmp_path) == [3]


KILLS = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from worldmodel.checkpoint import load, save, verify

torch.set_num_threads(1)
folder, same_step = Path(sys.argv[1]), sys.argv[2] == "same"
random.seed(0)
last = -1
for kill in range(12):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        value = last
        while True:
            value += 1
            step = 7 if same_step else value
            tensors = {"model": {"it": torch.full((3, 50), value)}}
            save(folder, step, tensors, {"value": value})
            os.write(writer, b".")
    os.close(writer)
    assert os.read(reader, 1)  # one at least is whole
    time.sleep(random.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as pipe:
        saved = 1 + len(pipe.read())
    loaded = load(folder)
    value = loaded.state["value"]
    assert (loaded.tensors["model"]["it"] == value).all(), kill
    assert last + saved <= value <= last + saved + 1, (kill, last, saved, value)
    assert verify(folder) == [], verify(folder)
    last = value
print(last)
"""


@pytest.mark.parametrize("steps", ["new", "same"])
def test_a_kill_at_any_moment_loses_nothing_that_was_saved(tmp_path, steps):
    arguments = [sys.executable, "-c", KILLS, str(tmp_path / "checkpoints"), steps]
    loaded = subprocess.run(
        arguments, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False
    )
    assert loaded.returncode == 0, loaded.stderr
    assert int(loaded.stdout) >= 11


def test_a_kill_while_a_step_is_replaced_leaves_the_old_one(tmp_path):
    path = save(tmp_path, 7, numbers(7), {"step": 7})
    path.rename(tmp_path / "000000007.replaced")
    check_whole(load(tmp_path), 7)
    save(tmp_path, 8, numbers(8), {"step": 8})
    assert load(tmp_path).step == 8
    shutil.rmtree(tmp_path / "000000008")
    check_whole(load(tmp_path), 7)


def learner(seed: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
    groups = [
        {"params": model[0].parameters(), "lr": 0.03, "betas": (0.8, 0.99)},
        {"params": [model[2].weight], "weight_decay": 0.1},
        {"params": [model[2].bias], "lr": torch.tensor(0.02), "amsgrad": True},
    ]
    return model, torch.optim.Adam(groups, lr=0.01, foreach=False)


def learn(model: torch.nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor) -> None:
    for rows in inputs:
        optimizer.zero_grad()
        model(rows).square().sum().backward()
        optimizer.step()


def test_an_optimizer_goes_on_bit_for_bit(tmp_path):
    inputs = torch.randn(9, 4, 3, generator=torch.Generator().manual_seed(0))
    model, optimizer = learner(seed=1)
    learn(model, optimizer, inputs[:5])
    optimizer.param_groups[1]["lr"] = 1 / 3  # as a schedule does
    packed = checkpoint.pack_optimizer(optimizer)
    save(tmp_path, 5, {"model": model.state_dict(), "optimizer": packed}, {})
    learn(model, optimizer, inputs[5:])

    other_model, other = learner(seed=2)
    tensors = load(tmp_path).tensors
    before = copy.deepcopy(tensors)
    other_model.load_state_dict(tensors["model"])
    checkpoint.unpack_optimizer(other, tensors["optimizer"])
    assert other.param_groups[0]["betas"] == (0.8, 0.99)
    assert other.param_groups[1]["lr"] == 1 / 3
    learn(other_model, other, inputs[5:])
    for a, b in zip(model.parameters(), other_model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert all(
        torch.equal(before["optimizer"][name], tensor)
        for name, tensor in tensors["optimizer"].items()
    )


def test_an_optimizer_keeps_finer_numbers_than_its_parameters():
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    other = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    one, two = torch.optim.Adam([weight]), torch.optim.Adam([other])
    one.state[weight] = {"step": torch.tensor(1.0), "exp_avg": torch.full((3,), 1 / 3)}
    checkpoint.unpack_optimizer(two, checkpoint.pack_optimizer(one))
    assert torch.equal(two.state[other]["exp_avg"], torch.full((3,), 1 / 3))


def test_an_optimizer_that_never_stepped_is_restored():
    (_, one), (_, two) = learner(1), learner(2)
    checkpoint.unpack_optimizer(two, checkpoint.pack_optimizer(one))
    assert two.state_dict()["state"] == {}


def test_an_optimizer_of_another_shape_is_refused():
    _, optimizer = learner(1)
    other = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])
    with pytest.raises(ValueError, match=r"groups of \[1\], got groups of \[2, 1, 1\]"):
        checkpoint.unpack_optimizer(other, checkpoint.pack_optimizer(optimizer))


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.MT19937, np.random.Philox])
def test_a_numpy_generator_goes_on_where_it_stood(tmp_path, kind):
    generator = np.random.Generator(kind(3))
    generator.integers(7, size=3, dtype=np.int32)  # half of a 64-bit draw waits
    save(tmp_path, 1, {}, {"draws": checkpoint.numpy_state(generator)})
    expected = generator.integers(1000, size=9, dtype=np.int32), generator.normal(size=4)
    other = np.random.Generator(kind(4))
    checkpoint.set_numpy_state(other, load(tmp_path).state["draws"])
    assert (other.integers(1000, size=9, dtype=np.int32) == expected[0]).all()
    assert (other.normal(size=4) == expected[1]).all()


def test_the_state_of_another_kind_of_generator_is_refused():
    state = checkpoint.numpy_state(np.random.Generator(np.random.MT19937(0)))
    with pytest.raises(ValueError, match="expected PCG64, got MT19937"):
        checkpoint.set_numpy_state(np.random.default_rng(0), state)


def test_a_torch_generator_goes_on_where_it_stood(tmp_path):
    generator = torch.Generator().manual_seed(5)
    torch.randn(3, generator=generator)
    save(tmp_path, 1, {"random": {"torch": generator.get_state()}}, {})
    expected = torch.randn(4, generator=generator)
    other = torch.Generator()
    other.set_state(load(tmp_path).tensors["random"]["torch"])
    assert torch.equal(torch.randn(4, generator=other), expected)


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path):
    path = save(tmp_path, 1, numbers(1), {"a": 1})
    for file in path.iterdir():
        assert file.suffix in (".json", ".safetensors")
        assert not file.read_bytes().startswith((b"\x80", b"PK"))


def test_the_cameras_of_a_model_are_compared_unless_an_older_run_does_not_know_them(
    tmp_path: Path,
) -> None:
    seen = Spec((16, 16, 3), 2, fit="crop", cameras={"image": (48, 64, 3)})
    save(tmp_path, 1, {"model": {"a": torch.zeros(1)}}, {}, made=Made(seen))
    assert load(tmp_path, made=Made(Spec((16, 16, 3), 2))) is not None
    for other, said in (({"image": (36, 64, 3)}, "36"), ({"front": (48, 64, 3)}, "front")):
        with pytest.raises(ConfigError, match=rf"made with spec\.cameras = .*48.*{said}.* asked"):
            load(tmp_path, made=Made(Spec((16, 16, 3), 2, fit="crop", cameras=other)))
    with pytest.raises(ConfigError, match=r"made with spec\.fit = crop, and pad is asked for"):
        load(tmp_path, made=Made(Spec((16, 16, 3), 2, fit="pad", cameras=seen.cameras)))
