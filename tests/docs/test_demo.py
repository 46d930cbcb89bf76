"""run_demo.sh never half-works: what it shows, what it says when something is missing, and that it cleans up.

Each test has a copy of the project in a folder with a space in its name. Its .venv is a stand-in for the interpreter
that runs the tests, so that nothing is installed and no network is needed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

import pexpect
import pytest

from tests.helpers import PATIENCE, ROOT, ipc_table, wait_until

NEEDED = ("bash", "cat", "dirname", "flock", "grep", "id", "readlink", "rm", "sha256sum", "tail", "uname")

DEMONSTRATION = "common/scenes/demo.sh"

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, (*NEEDED, "ipcs"))), reason="needs coreutils, grep, and util-linux for ipcs and flock"
)


def dimensions(columns: int) -> tuple[int, int]:
    """A terminal of the usual size, or a large one."""
    return 24 if columns == 80 else 40, columns


class Project:
    """A copy of the project, and the ways to run its run_demo.sh."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "a project"
        self.scratch = directory / "scratch"
        self.scratch.mkdir()
        shutil.copytree(ROOT / "common", self.root / "common", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("run_demo.sh", "writer.py", "reader.py", "requirements.txt", "requirements-dev.txt"):
            shutil.copy(ROOT / name, self.root)
        self.script = str(self.root / "run_demo.sh")
        self.python = self.root / ".venv/bin/python"
        self.environment = {**os.environ, "TMPDIR": str(self.scratch), "TERM": "xterm"}
        for name in ("NO_COLOR", "PYTHON"):
            self.environment.pop(name, None)
        self.held: list[int] = []

    def pretend_set_up(self, python: str = f'exec "{sys.executable}" "$@"') -> None:
        """A .venv whose python is this shell script, with the stamps of a finished set-up."""
        self.python.parent.mkdir(parents=True)
        self.python.write_text(f"#!/bin/bash\n{python}\n")
        self.python.chmod(0o755)
        for name in ("requirements.txt", "requirements-dev.txt"):
            both = (self.root / "requirements.txt").read_bytes() + (self.root / name).read_bytes()
            (self.root / f".venv/{name}.installed").write_text(f"{hashlib.sha256(both).hexdigest()}  -\n")

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end, from another directory and on no terminal."""
        child = subprocess.Popen(
            [self.script, *arguments],
            cwd="/",
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert child.stdout
        first = os.read(child.stdout.fileno(), 4096).decode()
        self.hold_key_path(first)
        try:
            rest, err = child.communicate(timeout=2 * PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGTERM)  # its trap cleans up
            rest, err = child.communicate()
        return subprocess.CompletedProcess(arguments, child.returncode, first + rest, err)

    def spawn(self, *arguments: str, columns: int = 160, environment: Mapping[str, str] | None = None) -> pexpect.spawn:
        """Start it on a terminal."""
        return pexpect.spawn(
            "bash",
            [self.script, *arguments],
            cwd="/",
            env={**self.environment, **(environment or {})},
            dimensions=dimensions(columns),
            encoding="utf-8",
            timeout=PATIENCE,
        )

    def hold_key_path(self, output: str) -> None:
        """Keep the inode of the demonstration's key path until release(): whoever got it next would have its keys."""
        for path in re.findall(r"--key-path (\S+) as well", output):
            self.held.append(os.open(path, os.O_RDONLY))

    def release(self) -> None:
        """Give its key paths up."""
        for descriptor in self.held:
            os.close(descriptor)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    made.release()


def system_v_keys() -> set[str]:
    """Every key in use, as ipcs writes it."""
    return {f"{row['key'] & 0xFFFFFFFF:#010x}" for kind in ("shm", "sem") for row in ipc_table(kind)}


def assert_nothing_left(project: Project, output: str) -> None:
    used = set(re.findall(r"\bkey (0x[0-9a-f]{8})", output))
    assert project.held
    assert not used & system_v_keys()
    assert not list(project.scratch.iterdir())


@pytest.mark.slow
def test_the_demonstration_works_and_leaves_nothing(project: Project) -> None:
    project.pretend_set_up()
    done = project.run()
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "\x1b" not in done.stdout
    for shown in (
        "\nreader   > hello\n",
        "\nreader   > again\n",
        "\nreader   > third and last\n",
        "\nwriter   | sent 1 record, 268435456 bytes",
        "\n 30000 total\n",
        "none lost, none twice, none torn",
    ):
        assert shown in done.stdout
    part4 = re.search(
        r"== 4\. A file of \d+ MiB through a segment of (\d+) MiB\n.*?: (\d+) bytes", done.stdout, re.DOTALL
    )
    assert part4 and int(part4[1]) == int(part4[2]) // 2**20
    part2 = done.stdout.split("== 2.")[1].split("== 3.")[0]
    for program in ("writer", "reader"):
        calls = re.findall(rf"^{program}   \| (\w+)\(.*\) = ", part2, re.MULTILINE)
        assert (calls[0], calls[-1]) == ("ftok", "shmdt")
        assert set(calls) == {"ftok", "shmget", "shmat", "shmctl", "shmdt"}
    for move in ("writer   | # store", "reader   | # load"):
        assert re.search(rf'^{re.escape(move)} 6 bytes at .*: "again\\n"$', part2, re.MULTILINE)
    assert part2.count("reader   | shmget") <= 2  # there is none; there it is
    posix = done.stdout.split("== 6.")[1].split("== After")[0]
    assert re.search(
        r"^/dev/shm \| sem\.shmpair-(\w{8})-\w{16}-\w+\n( {9}\| \S+\n){4} {9}\| shmpair-\1\n", posix, re.MULTILINE
    )
    assert "\nreader   > hello\n" in posix and posix.endswith("/dev/shm | nothing that is named after our key\n\n")
    sums = re.findall(r"^([0-9a-f]{64})  (sent|received)$", done.stdout, re.MULTILINE)
    assert sums[0][0] == sums[1][0]
    before, after = done.stdout.split("== 1.")[0], done.stdout.split("== After")[1]
    for end in (before, after):
        assert "ipcs     | nothing with one of our six keys\n" in end
        assert "ENOENT" in end
    assert "ipcs     | 0x" in done.stdout
    assert_nothing_left(project, done.stdout)


def test_the_promised_time_is_one(project: Project) -> None:
    promise = "under half a minute"
    assert promise in " ".join(project.run("help").stdout.split())
    assert promise in (ROOT / "README.md").read_text()
    assert "\npromised=30 # seconds" in (project.root / DEMONSTRATION).read_text()


@pytest.mark.slow
def test_it_says_where_the_time_went_if_it_took_longer_than_promised(project: Project) -> None:
    project.pretend_set_up()
    scene = project.root / DEMONSTRATION
    scene.write_text(scene.read_text().replace("\npromised=30", "\npromised=0"))
    done = project.run()
    assert (done.returncode, done.stderr) == (0, ""), done
    found = re.search(r"\nDone in (\d+) s\.(?s:.*)\nIt promised 0 s at most(?s:(.*))", done.stdout)
    assert found, done.stdout
    took, account = found.groups()
    rows = re.findall(r"^ +(\d+) s  (.+)$", account, re.MULTILINE)
    assert [title for _, title in rows] == re.findall(r"^== (.+)$", done.stdout, re.MULTILINE)
    assert sum(int(seconds) for seconds, _ in rows) == int(took)


@pytest.mark.parametrize(
    "at",
    [
        "== 1",
        "reader .*attached it",
        "second line",
        "== 4",
        pytest.param("writer 2.*attached it", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_leaves_nothing(project: Project, at: str) -> None:
    project.pretend_set_up()
    demo = project.spawn(environment={"NO_COLOR": "1"})
    demo.logfile_read = log = open(project.root / "log", "w+")  # noqa: SIM115
    with log:
        demo.expect("--key-path .* as well")
        project.hold_key_path(demo.after)
        demo.expect(at)
        demo.sendintr()
        demo.expect(pexpect.EOF)
        demo.close()
        log.seek(0)
        output = log.read()
    assert demo.exitstatus == 130
    assert "\x1b" not in output
    assert_nothing_left(project, output)


def test_prefixes_are_coloured_on_a_terminal(project: Project) -> None:
    project.pretend_set_up()
    demo = project.spawn()
    demo.expect_exact("\x1b[32mwriter   |\x1b[0m ")
    demo.expect_exact("\x1b[34mreader   >\x1b[0m ")
    demo.sendintr()
    demo.expect(pexpect.EOF)


def tools(directory: Path, *without: str) -> str:
    """A PATH with just what run_demo.sh needs, less what is missing in this test."""
    directory.mkdir()
    for tool in (*NEEDED, "ipcs", "python3"):
        if tool not in without:
            (directory / tool).symlink_to(shutil.which(tool) or "")
    return str(directory)


@pytest.mark.parametrize(
    ("verb", "missing", "package"),
    [
        ("demo", "python3", "python3"),
        ("demo", "ipcs", "util-linux"),
        ("crash", "ipcs", "util-linux"),
        ("demo", "flock", "util-linux"),
        ("test", "flock", "util-linux"),
        ("tmux", "tmux", "tmux"),
    ],
)
def test_a_missing_tool_is_named_with_its_package(
    project: Project, tmp_path: Path, verb: str, missing: str, package: str
) -> None:
    done = project.run(verb, PATH=tools(tmp_path / "tools", missing))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("run_demo.sh: ") and " is missing\n" in done.stderr
    assert f"sudo apt install {package}\n" in done.stderr
    assert not (project.root / ".venv").exists()


def test_a_python_without_ensurepip_is_named_with_its_package(project: Project, tmp_path: Path) -> None:
    python = tmp_path / "python-without-ensurepip"
    python.write_text(f'#!/bin/bash\n[[ $2 != *ensurepip* ]] && exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    done = project.run(PYTHON=str(python))
    assert done.returncode == 1
    assert "has no venv or ensurepip\n" in done.stderr and "sudo apt install python3-venv\n" in done.stderr
    assert not (project.root / ".venv").exists()


@pytest.mark.slow
def test_a_broken_venv_is_made_anew(project: Project) -> None:
    # pip finds what it is to install on PYTHONPATH, so it works without a network.
    environment = {
        "PYTHON": sys.executable,
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "PIP_NO_INDEX": "1",
    }
    project.pretend_set_up("exit 1")
    demo = project.spawn(environment=environment)
    demo.expect("making .venv with .*installing requirements.txt.*== Before")
    demo.sendintr()
    demo.expect(pexpect.EOF)
    assert subprocess.run([project.python, "-c", "import rich, sysv_ipc"], env=environment).returncode == 0
    again = project.spawn(environment=environment)
    assert again.expect(["making", "installing", "== Before"]) == 2
    again.sendintr()
    again.expect(pexpect.EOF)


@pytest.mark.parametrize(
    ("log", "advice"),
    [
        ("fatal error: Python.h: No such file or directory", "sudo apt install build-essential python3-dev\n"),
        ("error: command 'gcc' failed: No such file or directory", "sudo apt install build-essential python3-dev\n"),
        ("Could not find a version that satisfies the requirement", "is there a network"),
    ],
)
def test_a_failing_pip_says_what_to_do(project: Project, log: str, advice: str) -> None:
    project.pretend_set_up(f'[[ $* == *--version* ]] && exit 0; [[ $* == *install* ]] && echo "{log}"; exit 1')
    done = project.run()
    assert (done.returncode, done.stdout) == (1, "")
    assert log in done.stderr and advice in done.stderr


@pytest.mark.parametrize(
    ("failing", "code", "last"),
    [("", 0, "pytest -n 3 -k resume"), ("ruff", 1, "ruff check ."), ("mypy", 1, "mypy"), ("pytest", 5, "pytest")],
)
def test_the_test_verb_is_honest(project: Project, tmp_path: Path, failing: str, code: int, last: str) -> None:
    project.pretend_set_up(f'[[ $1 == -c ]] && exit; shift; echo "$*"; [[ $1 == "{failing}" ]] && exit {code}; exit 0')
    done = project.run("test", "-k", "resume", PATH=tools(tmp_path / "tools"))
    assert done.returncode == code
    assert done.stdout.splitlines()[-1].startswith(last)


def test_the_bench_verb_hands_its_options_on(project: Project) -> None:
    project.pretend_set_up('[[ $1 == -c ]] && exit; echo "$*"; exit 3')
    done = project.run("bench", "--quick", "--only", "seq|typed line")
    assert (done.returncode, done.stdout) == (3, "-m tests.bench --quick --only seq|typed line\n")


def test_the_report_verb_hands_its_options_on(project: Project) -> None:
    project.pretend_set_up()
    (project.root / "report.html").write_text("somebody else's")
    done = project.run("report", "--name", "Ada Lovelace", "--roll", "7")
    said = "report: report.html is no report of ours, and is left as it is; --output takes another name\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize(("verb", "module"), [("compare", "tests.bench.compare"), ("lab", "common.lab")])
def test_what_needs_no_package_for_development(project: Project, tmp_path: Path, verb: str, module: str) -> None:
    project.pretend_set_up('[[ $1 == -c ]] && exit; echo "$*"; exit 3')
    (project.root / ".venv/requirements-dev.txt.installed").unlink()
    done = project.run(verb, "--all", PATH=tools(tmp_path / "tools"))
    assert (done.returncode, done.stdout, done.stderr) == (3, f"-m {module} --all\n", "")


@pytest.mark.parametrize("has", ["no .venv", "a broken .venv", "an old .venv"])
def test_where_one_may_not_write_one_line_says_so(project: Project, has: str) -> None:
    if has != "no .venv":
        project.pretend_set_up("exit 0" if has == "an old .venv" else "exit 1")
        (project.root / ".venv/requirements.txt.installed").unlink()
        for number in range(50):
            (project.root / f".venv/bin/{number}").touch()
    command = ["bash", project.script]
    if os.geteuid() == 0:  # whom no mode keeps from writing
        if not shutil.which("setpriv"):
            pytest.skip("as root it needs setpriv: install the package util-linux")
        command = ["setpriv", "--bounding-set=-dac_override", *command]
    directories = [project.root, *(path for path in project.root.rglob("*") if path.is_dir())]
    for directory in directories:
        directory.chmod(0o555)
    try:
        done = subprocess.run(
            command, env={**project.environment, "PYTHON": sys.executable}, capture_output=True, text=True
        )
    finally:
        for directory in directories:
            directory.chmod(0o755)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"run_demo\.sh: may not write in .*a project.*\n", done.stderr), done.stderr
    assert has == "no .venv" or len(list((project.root / ".venv/bin").iterdir())) == 51


@pytest.mark.parametrize("shell", ["sh", "dash", "bash --posix"])
def test_another_shell_hands_over_to_bash(project: Project, tmp_path: Path, shell: str) -> None:
    command = shutil.which(shell.split()[0])
    if not command:
        pytest.skip(f"needs {shell}")
    words = [command, *shell.split()[1:], "run_demo.sh", "help"]
    done = subprocess.run(words, cwd=project.root, env=project.environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, project.run("help").stdout, "")
    if shell == "dash":
        path = tools(tmp_path / "tools", "bash")
        without = subprocess.run(words, cwd=project.root, env={"PATH": path}, capture_output=True, text=True)
        assert (without.returncode, without.stdout) == (1, "")
        assert without.stderr == "run_demo.sh: bash is missing; install the package bash\n"


def test_help_and_nonsense(project: Project) -> None:
    helped, refused = project.run("help"), project.run("nonsense")
    assert (helped.returncode, refused.returncode) == (0, 2)
    assert refused.stderr == f"run_demo.sh: there is no verb 'nonsense'\n{helped.stdout}"
    for verb in ("test", "bench", "compare", "report", "crash", "lab", "tmux", "help"):
        assert f"./run_demo.sh {verb}" in helped.stdout
    assert max(map(len, helped.stdout.splitlines())) <= 80


@pytest.fixture
def tmux(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a tmux server of our own."""
    if not shutil.which("tmux"):
        pytest.skip("needs tmux: install the package tmux")
    place = {"TMUX_TMPDIR": str(tmp_path_factory.mktemp("tmux")), "LC_ALL": "C.UTF-8", "SHELL": "/bin/sh"}
    yield place
    environment = {**os.environ, **place}
    environment.pop("TMUX", None)
    subprocess.run(["tmux", "kill-server"], env=environment, stderr=subprocess.DEVNULL)


class Window:
    """The window that run_demo.sh tmux opened."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.writer, self.reader, self.picture = wait_until(self.sides, "three sides")

    def ask_tmux(self, *words: str) -> str:
        return subprocess.run(["tmux", *words], env=self.environment, capture_output=True, text=True).stdout

    def wait_for(self, pane: str, words: str) -> None:
        wait_until(lambda: words in self.ask_tmux("capture-pane", "-p", "-t", pane), f"{words!r} in {pane}")

    def sides(self) -> list[str]:
        """The panes of the writer, the reader and the picture, once there are all three."""
        listed = self.ask_tmux("list-panes", "-a", "-F", "#{pane_id} #{pane_start_command}")
        found = [re.search(rf"^(\S+) .*run_demo.*pane\W+{side}\b", listed, re.MULTILINE) for side in SIDES]
        return [match[1] for match in found if match] if all(found) else []

    def where(self, pane: str) -> tuple[int, int]:
        """The column and the line where a pane begins."""
        left, top = self.ask_tmux("display-message", "-p", "-t", pane, "#{pane_left} #{pane_top}").split()
        return int(left), int(top)

    def close_both(self) -> None:
        """The picture goes with the second."""
        for pane in (self.writer, self.reader):
            self.wait_for(pane, "Enter closes this side")
            self.ask_tmux("send-keys", "-t", pane, "Enter")
        wait_until(
            lambda: "run_demo" not in self.ask_tmux("list-panes", "-a", "-F", "#{pane_start_command}"), "the end"
        )


SIDES = ("writer", "reader", "picture")


@pytest.mark.parametrize("columns", [80, 160])
@pytest.mark.parametrize("inside", [False, True], ids=["in a terminal", "inside tmux"])
def test_tmux_shows_both_and_what_is_between_them(
    project: Project, key_path: Path, tmux: dict[str, str], inside: bool, columns: int
) -> None:
    project.pretend_set_up()
    project.environment.pop("TMUX", None)
    project.environment.update(tmux)
    command = ["tmux", "--key-path", str(key_path)]
    if inside:
        shell = pexpect.spawn("tmux", ["-f", "/dev/null"], env=project.environment, dimensions=dimensions(columns))
        shell.send(f"'{project.script}' {' '.join(command)}\r")
    else:
        shell = project.spawn(*command, columns=columns)
    window = Window(project.environment)
    window.wait_for(window.writer, "Ctrl-D ends")
    window.wait_for(window.picture, "0 published")
    beside, below = window.where(window.reader)
    assert (beside > 0, below > 0) == (columns == 160, columns == 80)
    assert window.where(window.picture)[1] > below
    shell.send("good morning\r")  # the writer's side has the keyboard
    window.wait_for(window.reader, "\ngood morning\n")
    window.wait_for(window.picture, "1 consumed")
    shell.sendcontrol("d")
    window.close_both()
    shell.close(force=True)


def test_the_picture_is_of_the_same_channel(project: Project, key_path: Path, tmux: dict[str, str]) -> None:
    """And q ends it, which is no reason for the others to go."""
    project.pretend_set_up()
    project.environment.pop("TMUX", None)
    project.environment.update(tmux)
    shell = project.spawn("tmux", "--channel", "3", f"--key-path={key_path}", "--ipc=posix", "--timeout", "600")
    window = Window(project.environment)
    window.wait_for(window.picture, f"channel 3 of {key_path}")
    window.ask_tmux("send-keys", "-t", window.picture, "q")
    wait_until(lambda: not window.sides(), "the picture to go")
    window.ask_tmux("send-keys", "-t", window.writer, "C-d")
    window.close_both()
    shell.close(force=True)


def test_ctrl_c_in_tmux_leaves_the_last_words_readable(project: Project, key_path: Path, tmux: dict[str, str]) -> None:
    project.pretend_set_up()
    project.environment.pop("TMUX", None)
    project.environment.update(tmux)
    shell = project.spawn("tmux", "--key-path", str(key_path))
    window = Window(project.environment)
    window.wait_for(window.writer, "Ctrl-D ends")
    window.wait_for(window.reader, "attached it")
    for pane, program in ((window.reader, "reader"), (window.writer, "writer")):
        window.ask_tmux("send-keys", "-t", pane, "C-c")
        window.wait_for(pane, "ended by SIGINT")
        window.wait_for(pane, f"{program}.py has ended; Enter closes this side")
    assert window.sides()
    window.close_both()
    shell.close(force=True)


@pytest.mark.parametrize(
    ("options", "undone"),
    [((), "SEM_UNDO: the kernel gave its turn back"), (("--ipc", "posix"), "The kernel dropped its locks")],
    ids=["sysv", "posix"],
)
def test_the_crash_shows_that_nothing_is_lost(project: Project, options: tuple[str, ...], undone: str) -> None:
    project.pretend_set_up()
    done = project.run("crash", *options)
    assert (done.returncode, done.stderr) == (0, "")
    _, writer, dead_writer, reader, dead_reader, both, after = re.split(r"^== .*$", done.stdout, flags=re.MULTILINE)
    for stop, pid, step in ((writer, "writing", "publish"), (reader, "reading", "commit")):
        killed = re.search(rf"paused before {step}, pid (\d+): ", stop)
        assert killed and re.search(rf"^{pid} +pid {killed[1]}$", stop, re.MULTILINE)
        dead = dead_writer if stop is writer else dead_reader
        assert f"$ kill -9 {killed[1]}\n" in dead and f"pid {killed[1]} (which is no more)" in dead
    assert re.search(r"writer_turn +\d+ +0 ", writer) or options
    assert re.search(r"writer_turn +\d+ +1 ", dead_writer) or options
    assert dead_writer.count(undone) == dead_reader.count(undone) == 1
    assert (
        "2 published" in dead_writer and "1 consumed" in dead_reader and "131072 bytes are in the file" in dead_reader
    )
    assert "going on at byte 65536 of record 0" in both and "sent 1 record, 917504 bytes" in both
    (one, _), (other, _) = re.findall(r"^([0-9a-f]{64})  (sent|received)$", both, re.MULTILINE)
    assert one == other
    assert "nothing " in after and "ENOENT" in after
    assert_nothing_left(project, done.stdout)


def test_ctrl_c_in_the_crash_leaves_nothing(project: Project) -> None:
    """Not even a program that is paused for ever: the scene does not get to its kill."""
    project.pretend_set_up()
    scene = project.root / "common/scenes/crash.sh"
    scene.write_text(scene.read_text().replace("{ kill -9", "{ sleep 600; kill -9"))
    crash = project.spawn("crash", environment={"NO_COLOR": "1"})
    crash.expect("--key-path .* as well")
    project.hold_key_path(crash.after)
    crash.expect(r"\$ kill -9 ")
    crash.sendintr()
    output = crash.before
    crash.expect(pexpect.EOF)
    crash.close()
    assert crash.exitstatus == 130
    assert_nothing_left(project, output)


@pytest.mark.parametrize("arguments", [["--ipc"], ["--ipc", "both"], ["posix"], ["--channel", "3"]])
def test_the_crash_has_one_option(project: Project, arguments: list[str]) -> None:
    done = project.run("crash", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "run_demo.sh: crash has one option, --ipc posix\n")
