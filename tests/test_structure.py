"""The shape of the project: imports point one way, the top level holds what it may, nothing names a machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

# By the part of the lab sheet that they are about, and then by what else is asked.
LAB_EXPERIMENTS = [
    f"lab.experiments.{part}"
    for part in (
        *("memory", "shmget", "keys", "wrappers", "shmat", "shmctl", "shmdt"),
        *("mistakes_objects", "mistakes_others", "mistakes_inside"),
        *("generations", "exam"),
    )
]

LAB_EXERCISES = ["lab.exercises.segments", "lab.exercises.waiting"]

# The floors of DESIGN.md section 1, from the ground up: a module imports only from the floors below its own, and on its
# own floor what ON_ITS_FLOOR allows. Nothing points back, so nothing can go round.
FLOORS = (
    {"typed"},
    {"errors", "words", "notes"},
    {"layout"},
    {"geometry"},
    {
        "channel.listener",
        "channel.objects",
        "channel.ending",
        "channel.ring",
        "channel.patience",
        "channel.end",
        "channel.output",
        "channel.input",
        "channel.write",
        "channel.fragments",
        "channel.finish",
        "channel.read",
    },
    {
        "ipc.calls",
        "ipc.sysv_calls",
        "ipc.place",
        "ipc.doorway",
        "ipc.trace",
        "ipc.call_meanings",
        "ipc.posix_call_meanings",
        "ipc.meanings",
        "ipc.processes",
        "ipc.removal",
        "ipc.family",
        "ipc.sysv_roles",
        "ipc.sysv_owners",
        "ipc.sysv_semaphores",
        "ipc.sysv",
        "ipc.posix_calls",
        "ipc.posix_meanings",
        "ipc.posix_roles",
        "ipc.posix_semaphores",
        "ipc.posix_objects",
        "ipc.posix",
        "ipc.proof",
        "ipc.lifecycle",
        "ipc.machine",
        "ipc.survey",
        "ipc.sysv_survey",
        "ipc.posix_survey",
    },
    {
        "cli.pace",
        "cli.values",
        "cli.options",
        "cli.explain",
        "cli.tracer",
        "cli.talk",
        "cli.run",
        "cli.tally",
        "cli.leaving",
        "cli.descriptors",
        "cli.sources",
        "cli.sinks",
        "cli.control",
    },
    {
        *("show.slots", "show.ring", "show.screen", "show.status", "show.terminal", "show.watch"),
        *("show.findings", "show.channels", "show.here", "show.doctor"),
        *("show.pair", "show.evidence", "show.trials", "show.report"),
    },
    {
        *("lab.classic_writer", "lab.classic_reader"),
        *("lab.calls", "lab.experiment", "lab.own", "lab.needs", "lab.programs", "lab.runner", "lab.sheet"),
        *LAB_EXPERIMENTS,
        *("lab.exercise", *LAB_EXERCISES),
        *("lab.catalogue", "lab.show", "lab.show_exercise", "lab.tables", "lab.__main__"),
    },
)
ON_ITS_FLOOR: dict[str, set[str]] = {
    "channel.patience": {"channel.listener"},
    "channel.end": {"channel.objects", "channel.ending", "channel.listener", "channel.patience", "channel.ring"},
    "channel.output": {"channel.ring"},
    "channel.input": {"channel.objects", "channel.ring"},
    "channel.fragments": {"channel.ring"},
    "channel.write": {
        *("channel.objects", "channel.listener", "channel.patience", "channel.ending"),
        *("channel.end", "channel.input", "channel.ring"),
    },
    "channel.finish": {
        *("channel.objects", "channel.listener", "channel.patience", "channel.ending"),
        *("channel.end", "channel.output", "channel.fragments"),
    },
    "channel.read": {
        *("channel.listener", "channel.end", "channel.output"),
        *("channel.fragments", "channel.finish", "channel.ring"),
    },
    "ipc.sysv_calls": {"ipc.calls"},
    "ipc.place": {"ipc.calls"},
    "ipc.trace": {"ipc.calls"},
    "ipc.posix_call_meanings": {"ipc.call_meanings"},
    "ipc.meanings": {"ipc.trace", "ipc.call_meanings", "ipc.posix_call_meanings", "ipc.posix_meanings"},
    "ipc.family": {"ipc.calls", "ipc.place", "ipc.removal"},
    "ipc.sysv_roles": {"ipc.sysv_calls"},
    "ipc.sysv_owners": {"ipc.sysv_calls", "ipc.removal"},
    "ipc.sysv_semaphores": {"ipc.calls", "ipc.sysv_calls", "ipc.sysv_owners", "ipc.removal"},
    "ipc.sysv": {
        *("ipc.sysv_calls", "ipc.sysv_roles", "ipc.sysv_owners", "ipc.sysv_semaphores"),
        *("ipc.family", "ipc.place", "ipc.processes", "ipc.removal"),
    },
    "ipc.posix_calls": {"ipc.calls"},
    "ipc.posix_roles": {"ipc.posix_calls"},
    "ipc.posix_semaphores": {"ipc.posix_calls", "ipc.removal"},
    "ipc.posix_objects": {
        *("ipc.calls", "ipc.posix_calls", "ipc.posix_roles", "ipc.posix_semaphores"),
        *("ipc.place", "ipc.removal"),
    },
    "ipc.posix": {
        *("ipc.posix_calls", "ipc.posix_objects", "ipc.posix_semaphores"),
        *("ipc.family", "ipc.place", "ipc.removal"),
    },
    # It names no family.
    "ipc.lifecycle": {"ipc.calls", "ipc.family", "ipc.place", "ipc.proof"},
    "ipc.survey": {"ipc.family", "ipc.place", "ipc.removal"},
    "ipc.sysv_survey": {
        *("ipc.calls", "ipc.family", "ipc.machine", "ipc.place", "ipc.removal", "ipc.survey"),
        *("ipc.sysv", "ipc.sysv_calls", "ipc.sysv_owners"),
    },
    "ipc.posix_survey": {
        *("ipc.family", "ipc.place", "ipc.posix_semaphores", "ipc.removal", "ipc.survey"),
        *("ipc.posix", "ipc.posix_calls", "ipc.posix_objects"),
    },
    "cli.tracer": {"cli.explain"},
    "cli.values": {"cli.pace"},
    "cli.options": {"cli.values"},
    "cli.talk": {"cli.pace", "cli.tracer"},
    "cli.run": {"cli.talk"},
    "cli.tally": {"cli.talk"},
    "cli.leaving": {"cli.options", "cli.talk", "cli.run"},
    "cli.sources": {"cli.descriptors"},
    "cli.sinks": {"cli.descriptors"},
    "cli.control": {"cli.talk", "cli.leaving"},
    "show.ring": {"show.slots"},
    "show.screen": {"show.ring"},
    "show.status": {"show.slots", "show.screen", "show.terminal"},
    "show.channels": {"show.findings", "show.status"},
    "show.here": {"show.findings", "show.status"},
    "show.doctor": {"show.channels", "show.findings", "show.here", "show.screen", "show.status"},
    "show.pair": {"show.status"},
    "show.evidence": {"show.pair"},
    "show.trials": {"show.pair"},
    "show.report": {"show.doctor", "show.pair", "show.evidence", "show.trials"},
    "show.watch": {"show.screen", "show.status", "show.terminal"},
    "lab.experiment": {"lab.calls"},
    "lab.own": {"lab.calls"},
    "lab.needs": {"lab.own"},
    "lab.runner": {"lab.calls", "lab.experiment", "lab.own"},
    "lab.programs": {"lab.calls", "lab.experiment", "lab.own"},
    **{module: {"lab.calls", "lab.experiment", "lab.own", "lab.programs"} for module in LAB_EXPERIMENTS},
    "lab.exercise": {"lab.calls", "lab.experiment", "lab.programs", "lab.runner"},
    "lab.exercises.segments": {"lab.calls", "lab.experiment", "lab.exercise"},
    "lab.exercises.waiting": {
        *("lab.calls", "lab.experiment", "lab.exercise", "lab.own", "lab.programs"),
        "lab.exercises.segments",
    },
    "lab.catalogue": {"lab.experiment", "lab.exercise"},
    "lab.show": {"lab.catalogue", "lab.experiment", "lab.needs", "lab.runner", "lab.sheet"},
    "lab.tables": {"lab.catalogue", "lab.experiment", "lab.sheet", "lab.show"},
    "lab.show_exercise": {"lab.catalogue", "lab.exercise", "lab.show"},
    "lab.__main__": {"lab.catalogue", "lab.show", "lab.show_exercise", "lab.tables"},
}
# Who knows the operating system, and who draws.
ONLY_IN = {
    "sysv_ipc": {"ipc.sysv_calls", "lab.classic_writer", "lab.classic_reader"},
    "ctypes": {
        "ipc.calls",
        "ipc.sysv_calls",
        "ipc.posix_calls",
        "lab.calls",
        "lab.experiments.shmat",
        "lab.experiments.shmctl",
        "lab.experiments.mistakes_inside",
        "lab.experiments.exam",
    },
    "posix_ipc": {"ipc.posix_calls"},
    "fcntl": {"ipc.doorway", "ipc.posix_calls", "cli.descriptors", "cli.sinks"},
    "jinja2": {"show.report"},
    "rich": {
        *("cli.tally", "show.ring", "show.screen", "show.doctor"),
        *("lab.show", "lab.show_exercise", "lab.__main__"),
    },
}

COMMON = ROOT / "common"
MODULES = sorted(
    ".".join(path.relative_to(COMMON).with_suffix("").parts) for path in COMMON.rglob("*.py") if path.stem != "__init__"
)


def path_of(module: str) -> Path:
    return COMMON.joinpath(*module.split(".")).with_suffix(".py")


TOP_LEVEL = {
    *("writer.py", "reader.py", "run_demo.sh", "README.md", "common", "tests"),
    *("pyproject.toml", "requirements.txt", "requirements-dev.txt", "LICENSE", ".gitignore", ".ci"),
}

# Built from pieces, so that this file does not name what it forbids.
# The README's student is nobody's machine, and neither is the place where pyenv puts its Pythons by default.
MACHINE_PATHS = re.compile(
    "|".join(
        [f"/{home}/(?!student/)[a-z]" for home in ("root", "home", "Users", "work")]
        + [r"(?<!\$HOME/)\.py" + "env", r"C:\\" + "Users"]
    )
)


def imports(path: Path) -> set[str]:
    """The dotted names of everything that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(path: Path) -> set[str]:
    """The modules of common/ that a file imports."""
    names = {name.removeprefix("common.") for name in imports(path) if name.startswith("common.")}
    return {module for module in MODULES for name in names if name == module or name.startswith(f"{module}.")}


def tracked() -> list[str]:
    """Every file under version control."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: clone the repository, and install git")
    return [name for name in listed.stdout.split("\0") if name]


def test_every_module_has_its_floor() -> None:
    assert sorted(module for floor in FLOORS for module in floor) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    own = next(number for number, floor in enumerate(FLOORS) if module in floor)
    below = set().union(*FLOORS[:own])
    assert ours(path_of(module)) <= below | ON_ITS_FLOOR.get(module, set())


@pytest.mark.parametrize("floor", FLOORS, ids=lambda floor: min(floor).split(".")[0])
def test_no_floor_goes_round(floor: set[str]) -> None:
    done: set[str] = set()
    while done < floor:
        ready = {module for module in floor if ON_ITS_FLOOR.get(module, set()) <= done}
        assert ready > done, f"a circle among {floor - done}"
        done = ready


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("library", ONLY_IN)
def test_libraries_stay_where_they_belong(module: str, library: str) -> None:
    used = any(name.split(".")[0] == library for name in imports(path_of(module)))
    assert not used or module in ONLY_IN[library]


@pytest.mark.parametrize("program", ["writer", "reader"])
def test_the_programs_make_no_ipc_call_of_their_own(program: str) -> None:
    assert "ipc.sysv_calls" not in ours(ROOT / f"{program}.py")
    assert not {name for name in imports(ROOT / f"{program}.py") if name.split(".")[0] in ONLY_IN}


# One test file for the two ends and what they share; names and types only need none.
TESTED_IN = {
    **dict.fromkeys(("channel.end", "channel.write", "channel.read", "channel.finish"), "test_channel"),
    **dict.fromkeys(("channel.input", "channel.output", "channel.listener"), "test_channel"),
    **dict.fromkeys(("ipc.sysv", "ipc.sysv_roles", "ipc.sysv_owners", "ipc.sysv_semaphores"), "test_lifecycle"),
    **dict.fromkeys(("ipc.place", "ipc.processes", "ipc.removal"), "test_lifecycle"),
    **dict.fromkeys(("cli.leaving", "words"), "test_cli"),
    "cli.values": "test_options",
    **dict.fromkeys(("channel.ring", "geometry"), "test_layout"),
    "show.slots": "test_status",
    **dict.fromkeys(("show.pair", "show.evidence", "show.trials"), "test_report"),
    "show.terminal": "test_watch",
    "show.ring": "test_screen",
    "notes": "test_layout",
    "ipc.calls": "test_sysv_calls",
    **dict.fromkeys(("ipc.posix_roles", "ipc.posix_semaphores", "ipc.posix_objects"), "test_posix"),
    **dict.fromkeys(("ipc.posix_meanings", "ipc.call_meanings", "ipc.posix_call_meanings"), "test_meanings"),
    **dict.fromkeys(("ipc.machine", "ipc.survey", "ipc.sysv_survey", "ipc.posix_survey"), "test_doctor"),
    **dict.fromkeys(("show.findings", "show.channels", "show.here"), "test_doctor"),
}
# Its modules are tested by the experiments, and by what is run as a person runs it.
TESTED_IN |= {
    module: "lab/test_exercises" if "exercise" in module else "lab/test_experiments"
    for module in MODULES
    if module.startswith("lab.")
}
TESTED_IN |= dict.fromkeys(("lab.classic_writer", "lab.classic_reader"), "lab/test_classic")
UNTESTED = {"errors", "channel.objects", "ipc.family"}


def test_every_module_has_its_unit_tests() -> None:
    names = {module: TESTED_IN.get(module, f"test_{module.split('.')[-1]}") for module in MODULES}
    assert {m for m, name in names.items() if not (ROOT / "tests" / f"{name}.py").exists()} == UNTESTED


# Until common/__init__.py has run, Ctrl-C is a traceback: what comes before must be there already, or take no time.
IN_NO_TIME = {"__future__"}  # one small file, which `from __future__ import annotations` cannot do without


def before_common(program: str) -> list[str]:
    """What a program imports, in order, before it imports anything of ours."""
    found: list[str] = []
    for node in ast.parse((ROOT / f"{program}.py").read_text()).body:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] == "common":
                return found
            found.append(node.module or "")
    raise AssertionError(f"{program}.py imports nothing of ours")


def loaded_after(code: str) -> set[str]:
    """The modules that an interpreter has loaded from files once it has run `code`; isolated, so without site's."""
    show = f"{code}\nimport sys; print(*(name for name, m in sys.modules.items() if getattr(m, '__file__', None)))"
    done = subprocess.run([sys.executable, "-S", "-c", show], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("program", ["writer", "reader"])
def test_nothing_slow_is_imported_before_ctrl_c_is_taken_care_of(program: str) -> None:
    imported = before_common(program)
    assert "os" in imported
    at_start = loaded_after("import os")
    code = "\n".join(f"import {name}" for name in imported)
    assert loaded_after(code) - at_start <= IN_NO_TIME


def test_taking_care_of_ctrl_c_imports_nothing_slow() -> None:
    assert loaded_after("import common") - loaded_after("import os") == {"common"}


@pytest.mark.parametrize(
    "path", [*(str(path_of(module).relative_to(ROOT)) for module in MODULES), "writer.py", "reader.py"]
)
def test_every_file_opens_with_its_rule(path: str) -> None:
    assert ast.get_docstring(ast.parse((ROOT / path).read_text()))


def test_the_top_level_holds_what_it_may() -> None:
    assert {name.split("/")[0] for name in tracked()} <= TOP_LEVEL


def test_no_generated_file_is_tracked() -> None:
    generated = re.compile(r"(^|/)(__pycache__|\.venv|\.hypothesis|\.[a-z]+_cache)/|\.(pyc|o|so|egg-info)$")
    assert [name for name in tracked() if generated.search(name)] == []


def test_no_tracked_file_names_a_machine() -> None:
    found = []
    for name in tracked():
        path = ROOT / name
        if path.is_file():
            text = path.read_bytes().decode(errors="replace")
            found += [f"{name}: {match.group()}" for match in MACHINE_PATHS.finditer(text)]
    assert found == []
