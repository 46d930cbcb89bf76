"""The lab report: every section, every byte from the run, nothing from elsewhere, and no name that becomes markup."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from common.cli.talk import Talk
from common.errors import ChannelError
from common.show import evidence, report
from common.show.pair import own_pair, read_lines
from common.show.trials import TRIALS
from tests.helpers import PATIENCE, ROOT, Finished, Pair, finish, keys_of, left_behind, left_in_dev_shm, wait_until
from tests.in_process import place_of, sysv

NAME = """<script>alert("x")</script> & 'Zoë' {{ 7 * 7 }} \x1b[31m\udcff"""
SHOWN = """<script>alert("x")</script> & 'Zoë' {{ 7 * 7 }} \\x1b[31m\\udcff"""
SECTIONS = ["aim", "theory", "apparatus", "run", "comparison", "tried", "conclusion"]
# As ./run_demo.sh compare has it.
FIGURES: dict[str, Any] = {
    "rounds": 1,
    "refused": {"<FIFO>": "it is closed"},
    "mechanisms": {
        "our ring": {"64": {"seconds": 64 / 2**20}, "1048576": {"seconds": 0.0005}, "0": {"seconds": 0.001}},
        "queue": {"64": {"seconds": 32 / 2**20}, "0": {"seconds": 0.0005}},
    },
    "said": ["Why: <because>."],
}


class Page(HTMLParser):
    """What a browser makes of the file: its tags with their attributes, its text, and what stands in each section."""

    VOID = ("meta", "br", "rect")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(self.source)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)
        if tag == "section":
            self.sections[dict(attrs)["id"] or ""] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "section" in self._open:
            self.sections[list(self.sections)[-1]] += data


def make(output: Path, *options: str, name: str = NAME) -> None:
    """A report, made in this process; the comparison is not measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "_compare", lambda: FIGURES)
        patch.setattr(sys, "argv", ["report", "--name", name, "--roll", "7", "--output", str(output), *options])
        assert report.main(Talk("report", quiet=True)) == 0


@pytest.fixture(scope="module", params=["sysv", "posix"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The family, and a report of a run over it."""
    output = tmp_path_factory.mktemp("report") / "report.html"
    make(output, "--ipc", request.param, "--date", "the 1st <of May>")
    return request.param, output


@pytest.fixture
def page(made: tuple[str, Path]) -> Page:
    return Page(made[1])


def start(*options: str, directory: Path) -> subprocess.Popen[bytes]:
    """As run_demo.sh starts it, with all that it makes for a while in `directory`."""
    return subprocess.Popen(
        [sys.executable, "-m", "common.show.report", *options],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(*options: str, directory: Path) -> Finished:
    return finish(start("--name", "Ada", "--roll", "7", *options, directory=directory))


def test_it_touches_no_channel_of_others(pair: Pair, tmp_path: Path) -> None:
    """Not even to look, as --doctor does: the kernel notes who attached last."""
    assert pair.write("--quiet", "hello").code == 0
    shmid = sysv.open_segment(place_of(pair.key_path).segment_key)
    before = sysv.stat_segment(shmid)
    make(tmp_path / "report.html")
    after = sysv.stat_segment(shmid)
    assert (after.last_pid, after.attach_time) == (before.last_pid, before.attach_time)
    assert pair.read("--quiet").out == b"hello\n"


def test_every_section_is_there_and_nothing_comes_from_elsewhere(page: Page) -> None:
    assert list(page.sections) == SECTIONS
    assert all(text.strip() for text in page.sections.values())
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    named = {name for _, attributes in page.tags for name in attributes}
    assert not {"src", "href", "srcset", "action", "background", "onload"} & named
    assert not re.search(r"url\(|@import|://(?!www\.w3\.org/2000/svg)", page.source)


def test_no_character_of_a_name_is_markup(page: Page) -> None:
    assert "<script" not in page.source and "\x1b" not in page.source
    assert f"Hello, this is {SHOWN} (7)" in page.sections["run"]
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; &amp; &#39;Zoë&#39; {{ 7 * 7 }}" in page.source
    assert "the 1st &lt;of May&gt;" in page.source


def test_the_run_shows_calls_their_meanings_and_the_system(made: tuple[str, Path], page: Page) -> None:
    calls = {
        "sysv": ("ftok", "shmget", "shmat", "shmctl", "shmdt"),
        "posix": ("ftok", "shm_open", "ftruncate", "mmap", "munmap", "shm_unlink"),
    }[made[0]]
    shown = page.sections["run"]
    for call in calls:
        assert re.search(rf"^{call}\(.*\) = ", shown, re.MULTILINE)
        assert re.search(rf"{call}\([23]\): ", shown)
    assert "store " in shown and "load " in shown
    before, rest = shown.split("During:")
    during, after = rest.split("After:")
    ours = r"^0x0\d00\w{4} " if made[0] == "sysv" else r"shmpair-\w{8}"
    counts = [len(re.findall(ours, part, re.MULTILINE)) for part in (before, during, after.split("The segment,")[0])]
    assert counts == [0, 6, 0]


def test_the_bytes_are_those_of_the_segment(page: Page) -> None:
    rows = dict(re.findall(r"^([0-9a-f]{8})  ((?:[0-9a-f]{2} {1,2}){16})\|", page.sections["run"], re.MULTILINE))
    assert bytes.fromhex(rows["00000000"])[:8] == b"SHMPAIR1"
    payload = b"".join(bytes.fromhex(row) for at, row in rows.items() if int(at, 16) >= 2 * 4096)
    assert payload.rstrip(b"\0") == f"Hello, this is {SHOWN} (7)\n".encode()


def test_each_trial_is_observed(made: tuple[str, Path], page: Page) -> None:
    tried = [trial for trial in TRIALS if made[0] == "sysv" or not trial.system_v_only]
    assert page.sections["tried"].count(" hello") >= len(tried) - 1
    assert all(trial.lesson in page.sections["tried"] for trial in tried)
    assert f"Of {len(tried)} things that were tried, {len(tried)} showed what" in page.sections["conclusion"]


def test_the_comparison_is_a_table_with_bars(page: Page) -> None:
    shown = page.sections["comparison"]
    for text in ("64 B, MiB/s", "1024 KiB, MiB/s", "1 byte to and fro", "2,000", "<FIFO> cannot run", "<because>"):
        assert text in shown
    bars = [attributes["style"] for tag, attributes in page.tags if attributes.get("class") == "bar"]
    assert bars == ["width: 50.0%", "width: 100.0%", "width: 50.0%", "width: 100.0%", "width: 100.0%"]


def test_nothing_is_left_of_it(made: tuple[str, Path], page: Page) -> None:
    (key,) = set(re.findall(r'ftok\("[^"]+", 1\) = (0x\w{8})', page.sections["run"]))
    keys = {int(key, 16) + (number << 24) for number in range(6)}
    assert not left_behind(keys) and not left_in_dev_shm(keys)
    assert list(made[1].parent.iterdir()) == [made[1]]


def test_what_a_program_said_is_read_line_by_line() -> None:
    said = "shmat(1, NULL, 0) = 0x1\n#   what  maps\n#   why   to\n# store 1 byte\nwriter: sent\nhello\n"
    lines = read_lines(said)
    assert [line.kind for line in lines] == ["call", "move", "said", "data"]
    assert lines[0].explained == [("what", "maps"), ("why", "to")]


@pytest.mark.parametrize("content", [b"", None], ids=["an empty file", "an older report"])
def test_an_older_report_is_replaced(tmp_path: Path, made: tuple[str, Path], content: bytes | None) -> None:
    output = tmp_path / "report.html"
    output.write_bytes(made[1].read_bytes() if content is None else content)
    make(output, name="Somebody else")
    assert "this is Somebody else (7)" in Page(output).sections["run"]


@pytest.mark.parametrize("there", ["another's page", "a directory", "no directory"])
def test_nothing_else_is_replaced(tmp_path: Path, there: str) -> None:
    output, scratch = tmp_path / "report.html", tmp_path / "scratch"
    scratch.mkdir()
    if there == "another's page":
        output.write_text("<!DOCTYPE html><p>mine")
    elif there == "a directory":
        output.mkdir()
    else:
        output = tmp_path / "missing" / "report.html"
    done = run("--output", str(output), directory=scratch)
    assert done.code == 1 and done.err.startswith("report: ") and done.err.count("\n") == 1, done
    assert there != "another's page" or output.read_text() == "<!DOCTYPE html><p>mine"


@pytest.mark.parametrize("options", [(), ("--name", "Ada"), ("--name", "Ada", "--roll", "7", "--ipc", "pipe")])
def test_a_command_line_without_sense(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = finish(start(*options, directory=tmp_path))
    assert done.code == 2 and done.err.startswith("usage: ./run_demo.sh report"), done


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("ipc", ["sysv", "posix"])
@pytest.mark.parametrize("part", ["2 of 3", "3 of 3"])
def test_a_signal_ends_it_and_leaves_nothing(tmp_path: Path, number: signal.Signals, ipc: str, part: str) -> None:
    scratch, output = tmp_path / "scratch", tmp_path / "report.html"
    scratch.mkdir()
    options = ("--name", "Ada", "--roll", "7", "--ipc", ipc, "--output", str(output))
    with start(*options, directory=scratch) as child:
        assert child.stderr
        (key_path,) = wait_until(lambda: list(scratch.iterdir()), "its key path")
        keys = keys_of(key_path)
        while part.encode() not in child.stderr.readline():
            assert child.poll() is None
        child.send_signal(number)
        said = child.stderr.read().decode()
        assert child.wait(PATIENCE) == 128 + number
    assert said == f"report: ended by {number.name}\n"
    assert not list(scratch.iterdir()) and not output.exists()
    assert not left_behind(keys) and not left_in_dev_shm(keys)


@pytest.mark.parametrize("ipc", ["sysv", "posix"])
def test_whatever_happens_no_program_and_no_object_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ipc: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pairs = own_pair(ipc, Talk("report", quiet=True))
    with pytest.raises(RuntimeError), pairs as pair, pair.start("writer", "--wait", "hello") as child:
        pair.look(child)
        (key_path,) = tmp_path.iterdir()
        keys = keys_of(key_path)
        assert left_behind(keys) if ipc == "sysv" else left_in_dev_shm(keys)
        raise RuntimeError
    assert child.returncode == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir()) and not left_behind(keys) and not left_in_dev_shm(keys)


def test_a_pair_that_cannot_run_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "_SLOTS", ("--slots", "0"))
    with pytest.raises(ChannelError, match=r"writer: shmget\(.*EINVAL"):
        make(tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_whole_of_it(tmp_path: Path) -> None:
    """With the comparison measured, in a locale of ASCII."""
    scratch, output = tmp_path / "scratch", tmp_path / "report.html"
    scratch.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LC_ALL", "C")
        done = run("--output", str(output), directory=scratch)
    assert (done.code, done.out) == (0, b"") and done.err.count("\n") == 4, done
    compared = Page(output).sections["comparison"]
    for name in ("our ring", "bare segment", "pipe", "FIFO", "Unix socket", "TCP, loopback"):
        assert name in compared
    assert "Why: a pipe" in compared
    assert not list(scratch.iterdir())


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
browsed = pytest.mark.skipif(not CHROMIUM, reason="needs a browser: apt-get install chromium")


def browse(tmp_path: Path, page: Path, *options: str) -> str:
    """What a headless Chromium says of a page, offline."""
    apart = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--no-first-run"]
    command = [CHROMIUM, *apart, "--host-resolver-rules=MAP * ~NOTFOUND", *options, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=2 * PATIENCE).stdout


@browsed
@pytest.mark.slow
@pytest.mark.parametrize("width", [500, 1200])
def test_nothing_is_wider_than_the_window(tmp_path: Path, made: tuple[str, Path], width: int) -> None:
    measure = "<script>document.title = document.documentElement.scrollWidth + ' of ' + innerWidth</script></body>"
    measured = tmp_path / "measured.html"
    measured.write_text(made[1].read_text().replace("</body>", measure))
    dom = browse(tmp_path, measured, f"--window-size={width},900", "--dump-dom")
    found = re.search(r"<title>(\d+) of (\d+)</title>", dom)
    assert found and int(found[1]) <= int(found[2]), found


@browsed
@pytest.mark.slow
def test_it_prints_on_a_few_sheets_of_a4(tmp_path: Path, made: tuple[str, Path]) -> None:
    printed = tmp_path / "report.pdf"
    browse(tmp_path, made[1], "--no-pdf-header-footer", f"--print-to-pdf={printed}")
    sheets = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", printed.read_bytes())
    assert 5 <= len(sheets) <= 12
    assert {(round(float(width)), round(float(height))) for width, height in sheets} == {(595, 842)}
