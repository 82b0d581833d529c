"""Findings about invented machines, and about this one."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import worldmodel
from worldmodel import doctor, machine
from worldmodel.cli import main
from worldmodel.doctor import describe, judge, own_process, packages, probes, survey, works
from worldmodel.doctor.facts import Arithmetic, Drawing, Facts, Namesake, Trial
from worldmodel.doctor.findings import SUBJECTS, Finding
from worldmodel.doctor.namesakes import namesakes
from worldmodel.doctor.own_process import alone, begun

REQUIREMENTS = (
    "torch>=2.10",
    "numpy>=1.26",
    "dm-control==1.0.50",
    "mujoco<4,>=3.17",
    "mujoco-warp<4,>=3.17",
    "warp-lang>=1.15",
    "imageio-ffmpeg>=0.5",
    'pytest>=8; extra == "test"',
    'tensorboard; extra == "tensorboard"',
)
VERSIONS = {
    "torch": "2.13.0+cpu",
    "numpy": "2.4.6",
    "dm-control": "1.0.50",
    "mujoco": "3.17.0",
    "mujoco-warp": "3.17.0",
    "warp-lang": "1.19.0",
    "imageio-ffmpeg": "0.8.1",
    "tensorboard": "2.20.0",
}
SIGHT = Drawing(frames_per_s=60.0)
NO_LIBRARY = Drawing(failure="AttributeError: 'NoneType' object has no attribute 'eglQueryString'")
NO_DISPLAY = Drawing(failure="FatalError: an OpenGL platform library has not been loaded")
DRAWINGS = {"warp": Drawing(1000.0), "egl": SIGHT, "osmesa": SIGHT, "glfw": SIGHT}
NO_OPENGL = dict.fromkeys(("egl", "osmesa"), NO_LIBRARY) | {"glfw": NO_DISPLAY}
BLIND_WARP = Drawing(failure="RuntimeError: no kernel")
FAILS = Trial(failure="RuntimeError: it fell over", stage="playing")

WHOLE = Facts(
    python="3.11.7",
    system="Linux x86_64",
    versions=VERSIONS,
    requirements=REQUIREMENTS,
    namesakes=(),
    source="-e /home/me/worldmodel",
    simulator_failure="",
    ffmpeg_failure="",
    mujoco_gl="",
    has_display=False,
    drawings=DRAWINGS,
    arithmetic=Arithmetic(threads=2, bfloat16=("amx_bf16",), precision="bfloat16", replay_gb=4.0),
    trial=Trial(renderer="warp", update_ms=110.0, plan_ms=14.0, stage="closing"),
    quick=False,
    gpus=(),
    cores=2,
    quota_cores=None,
    load=0.1,
    memory_gb=20.0,
    disk_gb=80.0,
    folder="/home/me",
    folder_failure="",
)


def without(name: str) -> dict[str, str]:
    return {package: version for package, version in VERSIONS.items() if package != name}


def with_version(name: str, version: str) -> dict[str, str]:
    return {**VERSIONS, name: version}


def found(facts: Facts, subject: str) -> Finding:
    (finding,) = [finding for finding in judge(facts) if finding.subject == subject]
    return finding


# ---------------------------------------------------------------------------- judging


def test_a_complete_machine_needs_no_repair() -> None:
    findings = judge(WHOLE)
    assert {finding.state for finding in findings} == {"ok"}
    assert not any(finding.remedy for finding in findings)
    assert works(findings)
    assert "worldmodel train cartpole_swingup" in describe(findings).splitlines()[-1]


CONFIG_ERROR = "ConfigError: mujoco: dm-control breaks; type: pip install mujoco"
PROBLEMS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "mujoco 4 with dm-control 1.0.50": (
        {"versions": with_version("mujoco", "4.0.0"), "trial": FAILS},
        "mujoco",
        "4.0.0: dm-control 1.0.50 breaks on mujoco 4",
        "pip install 'mujoco>=3.17,<4'",
    ),
    "a half-upgraded mujoco": (
        {
            "versions": with_version("mujoco", "4.0.0"),
            "simulator_failure": "ImportError: mujoco-core is missing. Repair with: nonsense",
            "drawings": {},
            "trial": FAILS,
        },
        "mujoco",
        "4.0.0 cannot be imported: ImportError: mujoco-core is missing",
        "pip uninstall -y mujoco mujoco-core mujoco-studio && pip install 'mujoco>=3.17,<4'",
    ),
    "no mujoco": (
        {
            "versions": without("mujoco"),
            "simulator_failure": "ModuleNotFoundError: No module named 'mujoco'",
            "drawings": {},
            "trial": FAILS,
        },
        "mujoco",
        "missing",
        "'mujoco>=3.17,<4'",
    ),
    "no dm_control": (
        {"versions": without("dm-control"), "trial": FAILS},
        "dm-control",
        "missing",
        "pip install 'dm-control==1.0.50' 'mujoco>=3.17,<4'",
    ),
    "an old torch that fails": (
        {"versions": with_version("torch", "2.9.1"), "trial": FAILS},
        "torch",
        "2.9.1: loading weights has known security holes",
        "pip install 'torch>=2.10'",
    ),
    "nothing draws": (
        {"drawings": {"warp": BLIND_WARP, **NO_OPENGL}, "trial": FAILS},
        "warp",
        "does not draw: RuntimeError: no kernel",
        "pip install --force-reinstall",
    ),
    "no place for kernels": (
        {
            "drawings": {
                "warp": Drawing(failure="OSError: [Errno 30] /home/me/.cache"),
                **NO_OPENGL,
            },
            "trial": FAILS,
        },
        "warp",
        "[Errno 30]",
        "export WARP_CACHE_PATH=",
    ),
    "MUJOCO_GL keeps the only renderer off": (
        {
            "drawings": {**DRAWINGS, "warp": BLIND_WARP},
            "mujoco_gl": "bogus",
            "trial": FAILS,
        },
        "MUJOCO_GL",
        "bogus is none of egl, osmesa, glfw",
        "unset MUJOCO_GL",
    ),
    "an unwritable folder": (
        {"folder": "/", "folder_failure": "Read-only file system"},
        "folder",
        "cannot write in /: Read-only file system",
        "--run ",
    ),
    "a full disk": ({"disk_gb": 0.1}, "disk", "0.1 GB are free, too little", "--run "),
    "training ends with our own error": (
        {"trial": Trial(failure=CONFIG_ERROR, stage="making the task")},
        "training",
        "fails while making the task: mujoco: dm-control breaks",
        "pip install mujoco",
    ),
    "training fails with the renderer that comes first": (
        {"drawings": {**DRAWINGS, "warp": BLIND_WARP}, "trial": FAILS},
        "training",
        "cartpole_swingup fails while playing: RuntimeError: it fell over",
        "--env.renderer gl",
    ),
}


@pytest.mark.parametrize(
    ("changes", "subject", "said", "remedy"), PROBLEMS.values(), ids=list(PROBLEMS)
)
def test_a_problem_says_what_to_type(
    changes: dict[str, Any], subject: str, said: str, remedy: str
) -> None:
    facts = replace(WHOLE, **changes)
    finding = found(facts, subject)
    assert finding.state == "problem"
    assert said in finding.said
    assert remedy in finding.remedy
    assert not works(judge(facts))


IDLE_GPU = {"gpus": ("NVIDIA H200",)}
NOTES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "an old torch that works": (
        {"versions": with_version("torch", "2.9.1")},
        "torch",
        "2.9.1: loading weights has known security holes",
        "pip install 'torch>=2.10'",
    ),
    "an old numpy": (
        {"versions": with_version("numpy", "1.25.2")},
        "numpy",
        "1.25.2: worldmodel is made for >=1.26",
        "pip install 'numpy>=1.26'",
    ),
    "a missing extra": (
        {"versions": without("tensorboard")},
        "tensorboard",
        "missing; curves are in metrics.jsonl",
        "pip install tensorboard",
    ),
    "no ffmpeg": (
        {"versions": without("imageio-ffmpeg"), "ffmpeg_failure": "ModuleNotFoundError: ..."},
        "imageio-ffmpeg",
        "videos are GIF",
        "pip install 'imageio-ffmpeg>=0.5'",
    ),
    "a broken ffmpeg": (
        {"ffmpeg_failure": "RuntimeError: No ffmpeg exe could be found"},
        "ffmpeg",
        "No ffmpeg exe could be found",
        "pip install --force-reinstall imageio-ffmpeg",
    ),
    "no OpenGL": (
        {"drawings": {**DRAWINGS, **NO_OPENGL}},
        "gl/egl",
        "its library is not installed; it is needed only for images as published",
        "apt-get install -y libegl1",
    ),
    "no display": (
        {"drawings": {**DRAWINGS, **NO_OPENGL}},
        "gl/glfw",
        "it needs a display, and there is none",
        "",
    ),
    "one OpenGL of three": (
        {"drawings": {**DRAWINGS, "egl": Drawing(failure="it crashed (SIGSEGV)")}},
        "gl/egl",
        "it crashed (SIGSEGV); osmesa does, which is enough",
        "",
    ),
    "no warp": (
        {
            "drawings": {
                **DRAWINGS,
                "warp": Drawing(failure="ConfigError: none; type: pip install w"),
            }
        },
        "warp",
        "does not draw: none",
        "pip install w",
    ),
    "bogus MUJOCO_GL": ({"mujoco_gl": "bogus"}, "MUJOCO_GL", "bogus is none", "unset MUJOCO_GL"),
    "MUJOCO_GL that does not draw": (
        {"mujoco_gl": "glfw", "drawings": {**DRAWINGS, "glfw": NO_DISPLAY}},
        "MUJOCO_GL",
        "asks for glfw, which does not draw; egl does",
        "unset MUJOCO_GL",
    ),
    "a GPU that torch is not built for": (
        IDLE_GPU,
        "gpu",
        "NVIDIA H200 is idle: torch 2.13.0+cpu is built for processors alone",
        "pip install --force-reinstall 'torch>=2.10'",
    ),
    "a GPU that torch does not see": (
        {**IDLE_GPU, "arithmetic": Arithmetic(cuda_build="13.0", cuda_failure="The driver is old")},
        "gpu",
        "torch does not see it: The driver is old",
        "nvidia-smi",
    ),
    "a GPU that does not compute": (
        {
            **IDLE_GPU,
            "arithmetic": Arithmetic(
                cuda_build="13.0", cuda_devices=("K80",), cuda_failure="no kernel image"
            ),
        },
        "gpu",
        "K80 is seen, but does not compute: no kernel image",
        "pip install --force-reinstall",
    ),
    "a torch that ends": (
        {"arithmetic": Arithmetic(failure="it crashed (SIGILL)")},
        "torch",
        "fails: it crashed (SIGILL)",
        "pip install --force-reinstall",
    ),
    "a container's limit": (
        {"cores": 64, "quota_cores": 2.5},
        "cores",
        "64 are seen, but a limit allows 2.5",
        "taskset -c 0-1 worldmodel train",
    ),
    "other work": ({"load": 3.1}, "load", "3.1 on 2 cores: other work runs here", "top"),
    "little memory": (
        {"memory_gb": 3.5},
        "memory",
        "3.5 GB are free; a long run keeps 4 GB of episodes",
        "--replay.memory_gb 1.5",
    ),
    "a small disk": ({"disk_gb": 3.0}, "disk", "3.0 GB are free; a run of a million", "--run "),
    "a package of the same name": (
        {"namesakes": (Namesake("world-models", "0.1", "/usr/lib/python"),)},
        "worldmodel",
        "world-models 0.1 in /usr/lib/python brings a package worldmodel too",
        "pip uninstall -y world-models &&"
        " pip install --force-reinstall --no-deps -e /home/me/worldmodel",
    ),
    "a file of the same name": (
        {"namesakes": (Namesake("", "", "/home/me/my tests/worldmodel.py"),)},
        "worldmodel",
        "/home/me/my tests/worldmodel.py is not this package",
        "mv '/home/me/my tests/worldmodel.py' '/home/me/my tests/other_worldmodel.py'",
    ),
    "no package": ({"requirements": ()}, "packages", "not installed", "pip install -e ."),
}


@pytest.mark.parametrize(("changes", "subject", "said", "remedy"), NOTES.values(), ids=list(NOTES))
def test_a_note_does_not_prevent_a_first_run(
    changes: dict[str, Any], subject: str, said: str, remedy: str
) -> None:
    facts = replace(WHOLE, **changes)
    finding = found(facts, subject)
    assert finding.state == "note"
    assert said in finding.said
    assert remedy in finding.remedy
    assert bool(remedy) == bool(finding.remedy)
    assert works(judge(facts))


def test_a_package_that_training_does_not_need_is_only_a_note() -> None:
    facts = replace(WHOLE, versions=without("imageio-ffmpeg"), trial=FAILS)
    assert found(facts, "imageio-ffmpeg").state == "note"


def test_a_gpu_that_computes_is_offered() -> None:
    arithmetic = Arithmetic(cuda_build="13.0", cuda_devices=("NVIDIA H200",))
    finding = found(replace(WHOLE, arithmetic=arithmetic, **IDLE_GPU), "gpu")
    assert finding.state == "ok"
    assert "--device cuda" in finding.said


def test_a_processor_without_bfloat16_is_no_fault() -> None:
    finding = found(replace(WHOLE, arithmetic=Arithmetic(precision="float32")), "bfloat16")
    assert finding.state == "ok"
    assert "float32" in finding.said


def test_the_renderers_are_not_blamed_for_the_simulator() -> None:
    """A wrong version of mujoco does not lead to the advice to install OpenGL."""
    blind = Drawing(failure="AttributeError: flex_vertedge")
    for versions in (with_version("mujoco", "4.0.0"), without("dm-control")):
        facts = replace(
            WHOLE, versions=versions, drawings=dict.fromkeys(DRAWINGS, blind), trial=FAILS
        )
        for subject in ("warp", "gl/egl", "gl/osmesa", "gl/glfw"):
            assert found(facts, subject).remedy == ""


def test_the_same_failure_is_reported_once() -> None:
    blind = {"warp": BLIND_WARP, **NO_OPENGL}
    trial = Trial(failure=BLIND_WARP.failure, stage="making the task")
    text = describe(judge(replace(WHOLE, drawings=blind, trial=trial)))
    assert text.count("no kernel") == 1
    assert "as said above" in text


def test_what_nobody_can_read_is_cut() -> None:
    trial = Trial(failure="RuntimeError: " + 400 * "word ")
    assert len(found(replace(WHOLE, trial=trial), "training").said) < 300


@pytest.mark.parametrize(
    ("version", "versions", "answer"),
    [
        ("3.17.0", "<4,>=3.17", True),
        ("4.0.0", "<4,>=3.17", False),
        ("4.0.0rc1", "<4", False),
        ("3.9.1", ">=3.17", False),
        ("2.13.0+cpu", ">=2.10", True),
        ("2.9.1", ">=2.10", False),
        ("2.10", ">=2.10.0", True),
        ("1.0.50", "==1.0.50", True),
        ("1.0.5", "==1.0.50", False),
        ("1.0.5", "!=1.0.50", True),
        ("1.5", ">1.5", False),
        ("1.5", "<=1.5", True),
        ("7", "", True),
    ],
)
def test_versions_are_numbers(version: str, versions: str, answer: bool) -> None:
    assert packages.fits(version, versions) is answer


# ---------------------------------------------------------------------------- judging early


def growing(facts: Facts) -> list[Facts]:
    """Facts as they become known: torch, then each renderer, then the short training."""
    known = replace(facts, arithmetic=None, trial=None, drawings=dict.fromkeys(facts.drawings))
    steps = [known, known := replace(known, arithmetic=facts.arithmetic)]
    for name, drawing in facts.drawings.items():
        known = replace(known, drawings={**known.drawings, name: drawing})
        steps.append(known)
    return [*steps, facts]


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", [*PROBLEMS, *NOTES])
def test_later_facts_add_findings_and_change_none(name: str, quick: bool) -> None:
    changes = (PROBLEMS | NOTES)[name][0]
    facts = replace(WHOLE, **changes, quick=quick)
    findings = [judge(step) for step in growing(replace(facts, trial=None) if quick else facts)]
    for before, after in itertools.pairwise(findings):
        assert [finding for finding in before if finding not in after] == []
    assert findings[0]
    assert len(findings[-1]) > len(findings[0])


def test_a_defect_waits_for_the_training_that_shows_whether_it_matters() -> None:
    broken = replace(WHOLE, drawings={**DRAWINGS, "warp": BLIND_WARP})
    subjects = [[finding.subject for finding in judge(step)] for step in growing(broken)]
    assert ["warp" in each for each in subjects] == [False] * 6 + [True]
    assert ["gl/egl" in each for each in subjects] == [False] * 3 + [True] * 4


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({}, True),
        ({"drawings": {**DRAWINGS, "warp": BLIND_WARP}}, True),
        ({"drawings": {"warp": BLIND_WARP, **NO_OPENGL}}, False),
        ({"arithmetic": Arithmetic(failure="it crashed (SIGILL)")}, False),
    ],
)
def test_without_a_training_a_machine_works_if_torch_does_and_something_draws(
    changes: dict[str, Any], answer: bool
) -> None:
    findings = judge(replace(WHOLE, trial=None, quick=True, **changes))
    assert works(findings) is answer
    assert "training" not in {finding.subject for finding in findings}
    last = describe(findings, quick=True).splitlines()[-1]
    assert ("training was not tried" in last) is answer


# ---------------------------------------------------------------------------- saying


def test_the_text_stands_in_columns_and_remedies_in_one_piece() -> None:
    facts = replace(
        WHOLE,
        versions=with_version("mujoco", "4.0.0"),
        trial=FAILS,
        drawings={**DRAWINGS, **NO_OPENGL},
    )
    findings = judge(facts)
    lines = describe(findings, width=72).splitlines()
    column = lines[0].index("3.11.7")
    assert max(len(finding.subject) for finding in findings) <= SUBJECTS
    for line in lines[:-2]:
        if " type: " in line:
            assert line[column - 1] == " " != line[column]
        else:
            assert len(line) <= 72
            assert line[column - 1] == " " != line[column]
    for finding in findings:
        assert not finding.remedy or any(line.endswith(f"type: {finding.remedy}") for line in lines)
    assert lines[-2:] == ["", "2 problems between you and a first run; begin with the first"]


def answer_of(
    facts: Facts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str
) -> tuple[int, str]:
    monkeypatch.setattr(doctor, "gather", lambda pictures, quick: (f for f in growing(facts)))
    code = main(["doctor", *words])
    output = capsys.readouterr()
    assert output.err.startswith("examining this machine")
    return code, output.out


def test_the_exit_code_says_whether_the_main_job_works(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for facts, expected in ((WHOLE, 0), (replace(WHOLE, trial=FAILS), 1)):
        code, out = answer_of(facts, capsys, monkeypatch)
        assert code == expected
        assert sorted(out.splitlines()) == sorted(describe(judge(facts)).splitlines())


def test_each_finding_is_shown_as_soon_as_it_is_known(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    def gather(pictures: Path | None, quick: bool) -> Iterator[Facts]:
        for facts in growing(WHOLE):
            yield facts
            shown.append(capsys.readouterr().out)

    monkeypatch.setattr(doctor, "gather", gather)
    assert main(["doctor"]) == 0
    starts = [text.split()[1] for text in shown]
    assert starts == ["python", "bfloat16", "warp", "gl/egl", "gl/osmesa", "gl/glfw", "training"]


def test_json_is_one_object(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out = answer_of(replace(WHOLE, disk_gb=0.0), capsys, monkeypatch, "--json")
    (line,) = out.splitlines()
    answer = json.loads(line)
    assert (code, answer["works"]) == (1, False)
    (problem,) = [row for row in answer["findings"] if row["state"] == "problem"]
    assert {*problem} == {"state", "subject", "said", "remedy"}
    assert problem["subject"] == "disk"
    assert answer["facts"]["drawings"]["warp"]["frames_per_s"] == 1000


def test_a_place_where_no_picture_can_be_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "afile").write_text("")
    assert main(["doctor", "--pictures", str(tmp_path / "afile" / "drawn")]) == 2
    assert "pictures: cannot write" in capsys.readouterr().err


# ---------------------------------------------------------------------------- asking


CRASH = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
HANG = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("pass", None),
        (CRASH, "it crashed (SIGSEGV)"),
        (
            "import nothing_of_that_name",
            "ModuleNotFoundError: No module named 'nothing_of_that_name'",
        ),
        ("raise RuntimeError('one\\n  two')", "RuntimeError: one two"),
        ("import os; os.write(2, b'a\\nb\\n'); os._exit(3)", "b"),
        ("import os; os._exit(3)", "it ended with 3"),
    ],
)
def test_an_end_is_an_answer(code: str, failure: str | None) -> None:
    assert alone(code, 30).get("failure") == failure


def test_silence_is_an_answer_and_leaves_nothing_behind() -> None:
    begun = time.monotonic()
    assert alone(HANG, 0.5) == {"failure": "no answer in 0.5 s"}
    assert time.monotonic() - begun < 300  # it would sleep 600 s


def test_a_process_that_nobody_waits_for_ends_with_its_context() -> None:
    with begun(HANG, 600) as answer:
        pass
    assert answer()["failure"] in ("it crashed (SIGKILL)", "no answer in 600 s")


def test_facts_sent_before_a_crash_are_kept() -> None:
    code = f"""print('greetings'); print('{{"cores": 2}}'); print(7, flush=True); {CRASH}"""
    assert alone(code, 30) == {"cores": 2, "failure": "it crashed (SIGSEGV)"}


def test_surroundings_can_be_set_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKEN", "1")
    code = "import json, os; print(json.dumps({k: os.environ.get(k) for k in ('TAKEN', 'SET')}))"
    assert alone(code, 30, TAKEN="", SET="2") == {"TAKEN": None, "SET": "2"}


def test_a_file_in_the_working_directory_is_not_imported_as_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('mine')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert alone("import colorsys", 30) == {}


def test_a_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    assert survey._folder_failure(str(tmp_path)) == ""
    assert list(tmp_path.iterdir()) == []
    assert survey._folder_failure(str(tmp_path / "nowhere")) == "No such file or directory"


def test_a_containers_limits_are_read(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert machine.quota_cores(tmp_path / "cpu.max") == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.quota_cores(tmp_path / "cpu.max") is None
    assert machine.quota_cores(tmp_path / "nothing") is None
    meminfo = tmp_path / "meminfo"
    assert survey._memory_gb(meminfo, tmp_path) is None
    meminfo.write_text("MemTotal:       24000000 kB\nMemAvailable:   20000000 kB\n")
    assert survey._memory_gb(meminfo, tmp_path) == 20.48
    (tmp_path / "memory.current").write_text("3000000000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 1000000000\nactive_file 7\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert survey._memory_gb(meminfo, tmp_path) == 20.48
    (tmp_path / "memory.max").write_text("8000000000\n")
    assert survey._memory_gb(meminfo, tmp_path) == 6.0


def test_our_own_requirements_can_be_read() -> None:
    read = [packages._read_requirement(requirement) for requirement in survey._requirements()]
    assert ("dm-control", "==1.0.50", "") in read
    assert {extra for name, _, extra in read if name == "pytest"} == {"test"}
    assert {name for name, _, extra in read if not extra} >= {
        name for name, *_ in packages.CONFLICTS
    }


def install(folder: Path, name: str, **texts: str) -> None:
    """Make the metadata of an installed distribution."""
    about = folder / f"{name.replace('-', '_')}-0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    for file, text in texts.items():
        (about / file.replace("__", ".")).write_text(text)


def test_packages_and_files_of_the_same_name_are_noticed(tmp_path: Path) -> None:
    own, site, user, here = (tmp_path / name for name in ("clone", "site", "user", "here"))
    init = own / "worldmodel" / "__init__.py"
    for folder, text in ((own, "ours"), (site, "theirs"), (user, "ours")):
        (folder / "worldmodel").mkdir(parents=True)
        (folder / "worldmodel" / "__init__.py").write_text(text)
    here.mkdir()
    (here / "worldmodel.py").write_text("")
    install(own, "worldmodel", top_level__txt="worldmodel\n")  # as an editable clone has it
    install(site, "worldmodel", top_level__txt="worldmodel\n")
    install(site, "numpy", RECORD="numpy/__init__.py,,\nother/worldmodel.py,,\n")
    folders = [str(folder) for folder in (own, site)]
    assert [other.name for other in namesakes(init, folders)] == [""]  # the folder, not its owner
    install(site, "world-models", RECORD="x.py,,\nworldmodel/__init__.py,,\n")
    install(user, "Worldmodel", RECORD="worldmodel.py,,\n")
    found = namesakes(init, [str(here), *folders, str(site), str(user)])
    assert found == (
        Namesake("world-models", "0.1", str(site)),
        Namesake("Worldmodel", "0.1", str(user)),
        Namesake("", "", str(here / "worldmodel.py")),
    )


def test_this_installation_has_no_namesake() -> None:
    assert namesakes(Path(worldmodel.__file__), [*sys.path]) == ()


def test_the_training_goes_on_while_other_probes_do_if_there_are_two_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened: list[str] = []

    def ask(function: str, seconds: float, *arguments: str) -> dict[str, Any]:
        happened.append(function)
        return {}

    @contextlib.contextmanager
    def begin(code: str, seconds: float) -> Iterator[Callable[[], dict[str, Any]]]:
        happened.append("begin")
        yield lambda: happened.append("wait") or {}  # type: ignore[func-returns-value]
        happened.append("end")

    monkeypatch.setattr(survey, "ask", ask)
    monkeypatch.setattr(survey, "begun", begin)
    monkeypatch.setattr(survey, "_known_at_once", lambda quick: growing(WHOLE)[0])
    monkeypatch.setattr(survey, "_try_drawing", lambda name, pictures: SIGHT)
    for cores, quick, expected in (
        (2, False, ["begin", "examine_arithmetic", "wait", "end"]),
        (1, False, ["examine_arithmetic", "try_training"]),
        (2, True, ["examine_arithmetic"]),
    ):
        monkeypatch.setattr(machine, "cores", lambda cores=cores: cores)
        happened.clear()
        *_, last = doctor.gather(quick=quick)
        assert happened == expected
        assert (last.trial is None) is quick


@pytest.mark.mujoco
def test_this_machine_is_examined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run every probe, except for two of the three OpenGL backends.

    Probes run in this process, to import torch and warp once; but that of OpenGL, which takes its
    backend from the environment.
    """
    from PIL import Image

    def ask(function: str, seconds: float, *arguments: str, **surroundings: str) -> dict[str, Any]:
        if surroundings:
            return own_process.ask(function, seconds, *arguments, **surroundings)
        facts: dict[str, Any] = {}
        monkeypatch.setattr(probes, "tell", facts.update)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in a process of their own
            getattr(probes, function)(*arguments)
        return dict(json.loads(json.dumps(facts)))

    monkeypatch.setattr(survey, "ask", ask)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUJOCO_GL", "bogus")
    monkeypatch.setattr(survey, "BACKENDS", ("egl",))
    monkeypatch.setattr(machine, "cores", lambda: 1)
    *_, facts = doctor.gather(tmp_path / "drawn")
    findings = judge(facts)
    assert works(findings), describe(findings)
    assert facts.trial is not None
    assert facts.arithmetic is not None
    assert facts.trial.renderer == "warp"
    assert facts.trial.update_ms > 0 < facts.trial.plan_ms
    warp = facts.drawings["warp"]
    assert warp is not None
    assert warp.frames_per_s > 1
    assert facts.arithmetic.precision in ("float32", "bfloat16")
    assert facts.arithmetic.threads >= 1
    drawn = doctor.findings.who_draws(facts)
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {f"{n}.png" for n in drawn}
    with Image.open(warp.picture) as picture:
        assert picture.size == (256, 256)
    by_subject = {finding.subject: finding for finding in findings}
    assert by_subject["warp"].state == "ok"
    assert by_subject["MUJOCO_GL"].remedy == "unset MUJOCO_GL"
    assert json.loads(json.dumps(dataclasses.asdict(facts)))["cores"] == facts.cores
    assert [path.name for path in tmp_path.iterdir()] == ["drawn"]
