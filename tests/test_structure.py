"""The shape of the project: imports point one way, the top level holds what it may, nothing names a machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

# What each module may import of ours (DESIGN.md section 1). Nothing points back, so nothing can go round.
MAY_IMPORT: dict[str, set[str]] = {
    "layout": set(),
    "ipc": set(),
    "doorway": set(),
    "ending": {"layout"},
    "channel": {"layout", "ipc", "ending"},
    "streams": {"layout", "ipc", "channel"},
    "sysv": {"layout", "ipc"},
    "sysv_family": {"layout", "ipc", "sysv"},
    "trace": {"ipc", "sysv"},
    "cli": {"layout", "ipc", "doorway", "channel", "streams", "sysv", "sysv_family", "trace"},
    "control": {"layout", "ipc", "cli", "sysv", "sysv_family"},
    "screen": {"layout", "cli", "ending"},
    "view": {"layout", "ipc", "ending", "cli", "screen", "streams", "sysv", "sysv_family"},
}
# Who knows the operating system, and who draws.
ONLY_IN = {"sysv_ipc": {"sysv"}, "ctypes": {"sysv"}, "fcntl": {"doorway", "streams"}, "rich": {"cli", "screen"}}

MODULES = sorted(path.stem for path in (ROOT / "common").glob("*.py") if path.stem != "__init__")

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
    return {name.split(".")[1] for name in imports(path) if name.startswith("common.")}


def tracked() -> list[str]:
    """Every file under version control."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: clone the repository, and install git")
    return [name for name in listed.stdout.split("\0") if name]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    assert module in MAY_IMPORT, f"say in MAY_IMPORT what common/{module}.py may import"
    assert ours(ROOT / "common" / f"{module}.py") <= MAY_IMPORT[module]


def test_the_rules_themselves_do_not_go_round() -> None:
    done: set[str] = set()
    while len(done) < len(MAY_IMPORT):
        ready = {module for module, needs in MAY_IMPORT.items() if needs <= done}
        assert ready > done, f"a circle among {MAY_IMPORT.keys() - done}"
        done = ready


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("library", ONLY_IN)
def test_libraries_stay_where_they_belong(module: str, library: str) -> None:
    used = any(name.split(".")[0] == library for name in imports(ROOT / "common" / f"{module}.py"))
    assert not used or module in ONLY_IN[library]


@pytest.mark.parametrize("program", ["writer", "reader"])
def test_the_programs_make_no_ipc_call_of_their_own(program: str) -> None:
    assert "sysv" not in ours(ROOT / f"{program}.py")
    assert not {name for name in imports(ROOT / f"{program}.py") if name.split(".")[0] in ONLY_IN}


def test_every_module_has_its_unit_tests() -> None:
    # ipc.py is names and types only: nothing to test.
    missing = [m for m in MODULES if m != "ipc" and not (ROOT / "tests" / f"test_{m}.py").exists()]
    assert missing == []


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


@pytest.mark.parametrize("path", [*(f"common/{module}.py" for module in MODULES), "writer.py", "reader.py"])
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
