"""How --status looks: all of it at 80 columns and at 40, in ASCII where that is asked for, whatever the numbers are."""

from __future__ import annotations

import copy
import re
import time
from typing import Any

import pytest

from common.channel.ending import Ending
from common.layout import SEMAPHORES
from common.show.screen import draw

NOW = 1_800_000_000
STATUS: dict[str, Any] = {
    "key": "0x012816e5",
    "key_path": "/home/student/shmpair",
    "channel": 0,
    "segment": {
        "id": 7,
        "size": 2105344,
        "mode": "0660",
        "uid": 1001,
        "gid": 1002,
        "attached": 2,
        "last_pid": 17018,
        "creator_uid": 1003,
        "creator_gid": 1004,
        "creator_pid": 17017,
        "attach_time": NOW - 120,
        "detach_time": 0,
        "change_time": NOW - 7300,
        "marked_for_removal": False,
    },
    "semaphores": {
        name: {"id": 90 + index, "value": 10 + index, "last_pid": 1, "asleep": 0}
        for index, name in enumerate(SEMAPHORES)
    },
    "header": {
        "magic": "SHMPAIR1",
        "slot_count": 8,
        "slot_size": 262144,
        "head": 11,
        "tail": 6,
        "unread": 5,
        "writers_joined": 3,
        "writers_left": 2,
        "records_torn": 0,
    },
    "turns": {"writer_turn": "pid 4711", "reader_turn": "nobody"},
    "ending": "going_on",
    "damage": None,
}


def status_with(**changes: Any) -> dict[str, Any]:
    """STATUS with other values: header__head=3 is that of its header."""
    status = copy.deepcopy(STATUS)
    for path, value in changes.items():
        *parents, name = path.split("__")
        inner = status
        for parent in parents:
            inner = inner[parent]
        inner[name] = value
    return status


def lines(status: dict[str, Any], width: int = 80, *, plain: bool = True) -> list[str]:
    """The screen, a line an item."""
    return draw(status, now=NOW, plain=plain, color=False, width=width).splitlines()


def row(status: dict[str, Any], label: str, width: int = 80) -> str:
    """What stands behind a label, however many lines it takes."""
    text = "\n".join(line[: 41 if width == 80 and "id " in line else None] for line in lines(status, width))
    found = re.search(rf"^{label:8} (.*(?:\n {{9}}.*)*)", text, re.MULTILINE)
    assert found, (label, text)
    return " ".join(found[1].split())


def test_at_80_columns() -> None:
    assert lines(STATUS) == [
        "channel 0 of /home/student/shmpair (not atomic)",
        "slots    [###...##] unread 5",
        "tail            ^   6 consumed",
        "head         ^      11 published",
        "writing  pid 4711",
        "reading  nobody",
        "writers  14 alive; 3 joined, 2 left",
        "asleep   nobody",
        "verdict  going on",
        "",
        "segment  id 7, key 0x012816e5           semaphores   id  value  asleep",
        "size     2105344 B, 8 slots of 262144   full_slots   90     10       0",
        "owner    uid 1001, gid 1002, mode 0660  empty_slots  91     11       0",
        "creator  uid 1003, gid 1004, pid 17017  writer_turn  92     12       0",
        "nattch   2, last pid 17018              reader_turn  93     13       0",
        "attached 2 min ago                      writers      94     14       0",
        "detached never",
        "changed  2 h ago",
    ]


def test_at_40_columns() -> None:
    """One below the other, and nothing is missing."""
    assert lines(STATUS, 40) == [
        "channel 0 of /home/student/shmpair (not",
        "atomic)",
        "slots    [###...##] unread 5",
        "tail            ^   6 consumed",
        "head         ^      11 published",
        "writing  pid 4711",
        "reading  nobody",
        "writers  14 alive; 3 joined, 2 left",
        "asleep   nobody",
        "verdict  going on",
        "segment  id 7, key 0x012816e5",
        "size     2105344 B, 8 slots of 262144",
        "owner    uid 1001, gid 1002, mode 0660",
        "creator  uid 1003, gid 1004, pid 17017",
        "nattch   2, last pid 17018",
        "attached 2 min ago",
        "detached never",
        "changed  2 h ago",
        "semaphores   id  value  asleep",
        "full_slots   90     10       0",
        "empty_slots  91     11       0",
        "writer_turn  92     12       0",
        "reader_turn  93     13       0",
        "writers      94     14       0",
    ]


MOST = 2**31 - 1
LARGE = status_with(
    segment={
        "id": MOST,
        "size": 2**47,
        "mode": "0777",
        "uid": 2**32 - 2,
        "gid": 2**32 - 2,
        "attached": 30000,
        "creator_uid": 2**32 - 2,
        "creator_gid": 2**32 - 2,
        "creator_pid": 4194304,
        "last_pid": 4194303,
        "attach_time": 1,
        "detach_time": 1,
        "change_time": 1,
        "marked_for_removal": True,
    },
    semaphores={
        name: {"id": MOST - index, "value": 32767, "last_pid": 1, "asleep": 32000}
        for index, name in enumerate(SEMAPHORES)
    },
    header={
        "magic": "SHMPAIR1",
        "slot_count": 2**32 - 1,
        "slot_size": 2**32,
        "head": 2**64 - 2,
        "tail": 2**64 - 2**31,
        "unread": 2**31 - 2,
        "writers_joined": 2**64 - 1,
        "writers_left": 2**64 - 1,
        "records_torn": 2**64 - 1,
    },
    turns={"writer_turn": "pid 4194304 (which is no more)", "reader_turn": "pid 4194303 (which is no more)"},
)


@pytest.mark.parametrize("width", [40, 41, 60, 75, 76, 80, 100, 200])
@pytest.mark.parametrize("status", [STATUS, LARGE], ids=["small", "large"])
def test_nothing_is_cut_off_at_any_width(status: dict[str, Any], width: int) -> None:
    """Every word of the wide screen is there, numbers in one piece, and no line is longer than the terminal."""

    def words(screen: list[str]) -> set[str]:
        return set(
            re.findall(r"\w+", re.sub(r"\[[#+.]*\]|\([\d.e+]+ a cell\)", "", " ".join(" ".join(screen).split())))
        )

    shown = lines(status, width)
    assert max(map(len, shown)) <= width
    assert words(shown) == words(lines(status, 200))


def test_the_largest_numbers_fit_one_screen_too() -> None:
    assert len(lines(LARGE)) <= 24


def test_a_terminal_narrower_than_that_wraps_by_itself() -> None:
    assert lines(STATUS, 10) == lines(STATUS, 40)


@pytest.mark.parametrize("width", [40, 80])
def test_plain_is_the_same_in_ascii(width: int) -> None:
    status = status_with(header__slot_count=1000)
    drawn = "\n".join(lines(status, width, plain=False))
    plain = "\n".join(lines(status, width))
    assert plain.isascii() and not drawn.isascii()
    assert drawn.translate(str.maketrans("█▒░", "#+.")) == plain


@pytest.mark.parametrize(
    ("slots", "tail", "head", "picture", "tail_at", "head_at", "text"),
    [
        (8, 0, 0, "........", 0, 0, "unread 0: empty"),
        (8, 8, 8, "........", 0, 0, "unread 0: empty"),
        (8, 0, 8, "########", 0, 0, "unread 8: full"),
        (8, 5, 13, "########", 5, 5, "unread 8: full"),
        (8, 7, 9, "#......#", 7, 1, "unread 2"),
        (8, 0, 7, "#######.", 0, 7, "unread 7"),
        (1, 3, 3, ".", 0, 0, "unread 0: empty"),
        (1, 3, 4, "#", 0, 0, "unread 1: full"),
        (32, 0, 1, "#" + 31 * ".", 0, 1, "unread 1"),
        (64, 0, 64, 32 * "#", 0, 0, "unread 64: full (2 a cell)"),
        (64, 1, 4, "+#" + 30 * ".", 0, 2, "unread 3 (2 a cell)"),
        (1000, 990, 1010, "+" + 30 * "." + "+", 31, 0, "unread 20 (31.2 a cell)"),
        (1000, 0, 1000, 32 * "#", 0, 0, "unread 1000: full (31.2 a cell)"),
        (2**32 - 1, 2**33, 2**33 + 2**31, None, 0, 16, "unread 2147483648 (1.34e+08 a cell)"),
    ],
)
def test_the_slots_as_they_lie(
    slots: int, tail: int, head: int, picture: str | None, tail_at: int, head_at: int, text: str
) -> None:
    """The picture, below it where the next is taken and where the next is put; many slots share a cell."""
    status = status_with(header__slot_count=slots, header__tail=tail, header__head=head, header__unread=head - tail)
    shown = lines(status)
    drawn = re.match(r"slots    \[(.*?)\] (.*)", shown[1])
    assert drawn and drawn[2] == text
    assert picture is None or drawn[1] == picture
    assert len(drawn[1]) == min(slots, 32)
    assert [line.index("^") for line in shown[2:4]] == [10 + tail_at, 10 + head_at]
    assert shown[2].endswith(f" {tail} consumed") and shown[3].endswith(f" {head} published")


@pytest.mark.parametrize("slots", [64, 1000])
def test_many_slots_are_fewer_cells_where_it_is_narrow(slots: int) -> None:
    shown = lines(status_with(header__slot_count=slots, header__head=slots, header__tail=0, header__unread=slots), 40)
    assert f"slots    [{8 * '#'}] unread {slots}: full" in shown


@pytest.mark.parametrize(("slots", "unread"), [(8, 9), (8, -1), (0, 0), (8, 2 - 2**64)])
def test_what_cannot_be_is_not_drawn(slots: int, unread: int) -> None:
    status = status_with(header__slot_count=slots, header__unread=unread, damage="its geometry is absurd", ending=None)
    assert row(status, "slots") == f"unread {unread}, which cannot be drawn"
    assert (row(status, "tail"), row(status, "head")) == ("6 consumed", "11 published")
    assert row(status, "verdict") == "damaged: its geometry is absurd"
    assert row(status, "size", 40) == "2105344 B", "what the header says of slots is not to be believed"


@pytest.mark.parametrize("ending", Ending)
def test_the_verdict_in_words(ending: Ending) -> None:
    assert row(status_with(ending=ending.name.lower()), "verdict") == ending.value


def test_the_verdict_says_what_is_left_to_do() -> None:
    last = status_with(semaphores__writers__value=0)
    assert row(last, "verdict") == "going on: no writer is left, 1 writer stopped before the end; read it empty"
    said = status_with(semaphores__writers__value=0, header__writers_left=3)
    assert row(said, "verdict") == "going on: no writer is left; read it empty"


def test_the_verdict_on_one_whose_creator_died() -> None:
    half_made = status_with(header__magic="SHMPAIR?", damage="its magic is ...", ending=None)
    assert row(half_made, "verdict") == "half-made: its creator died; the next start clears it"


def test_no_verdict_without_the_semaphore_that_counts_writers() -> None:
    status = status_with(ending=None, semaphores__writers={"id": 94, "value": None, "asleep": None, "errno": "EACCES"})
    assert row(status, "verdict") == "not known: the semaphore writers cannot be read"
    assert row(status, "writers") == "? alive; 3 joined, 2 left"


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize(("errno", "said"), [("ENOENT", "gone"), ("EACCES", "EACCES"), ("EIDRM", "EIDRM")])
def test_semaphores_that_cannot_be_read(errno: str, said: str, width: int) -> None:
    lost = {name: {"id": MOST, "value": None, "asleep": None, "errno": errno} for name in SEMAPHORES}
    shown = lines(status_with(semaphores=lost), width)
    for name in SEMAPHORES:
        assert any(re.search(rf"{name} +{MOST} +{said} +-$", line) for line in shown)
    assert row(status_with(semaphores=lost), "asleep") == ("nobody" if said == "gone" else "not known")


def test_who_is_asleep() -> None:
    status = copy.deepcopy(STATUS)
    for number, name in enumerate(SEMAPHORES[:4], 1):
        status["semaphores"][name]["asleep"] = number
    said = "1 reader for data, 2 writers for room, 3 writers for the turn, 4 readers for the turn"
    assert row(status, "asleep") == row(status, "asleep", 40) == said


def test_torn_records_are_told_when_there_are_any() -> None:
    assert row(status_with(header__records_torn=1), "writers") == "14 alive; 3 joined, 2 left; 1 record torn"


def test_one_that_is_marked_for_removal() -> None:
    status = status_with(segment__marked_for_removal=True, ending="taken_away")
    assert row(status, "nattch", 40) == "2 (dest: it goes with the last detach), last pid 17018"
    assert row(status, "verdict") == "removed by ipcrm or rm"


@pytest.mark.parametrize(
    ("age", "said"),
    [
        (0, "0 s ago"),
        (59, "59 s ago"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (3600, "1 h ago"),
        (86399, "23 h ago"),
        (86400, time.strftime("%F %T", time.localtime(NOW - 86400))),
        (-1, time.strftime("%F %T", time.localtime(NOW + 1))),
        (NOW, "never"),
    ],
)
def test_times_as_people_write_them(age: int, said: str) -> None:
    assert row(status_with(segment__change_time=NOW - age), "changed") == said


@pytest.mark.parametrize(
    ("path", "drawn", "plain"),
    [
        ("/a b", "/a b", "/a b"),
        ("/[red]x[/red]:smile:", "/[red]x[/red]:smile:", "/[red]x[/red]:smile:"),
        ("/a\x1b[2Jb\n\x7f", r"/a\x1b[2Jb\n\x7f", r"/a\x1b[2Jb\n\x7f"),
        ("/\x9b2J", r"/\x9b2J", r"/\xc2\x9b2J"),
        ("/right\u202eleft", r"/right\u202eleft", r"/right\xe2\x80\xaeleft"),
        ("/\udcff", r"/\xff", r"/\xff"),
        ("/ä", "/ä", r"/\xc3\xa4"),
    ],
)
def test_a_path_commands_no_terminal(path: str, drawn: str, plain: str) -> None:
    """Control characters, those of eight bits and those that turn the writing included, are shown as escapes."""
    status = status_with(key_path=path)
    assert lines(status, plain=False)[0] == f"channel 0 of {drawn} (not atomic)"
    assert lines(status)[0] == f"channel 0 of {plain} (not atomic)"


def test_a_long_path_is_shown_whole() -> None:
    path = "/" + "x" * 300
    shown = lines(status_with(key_path=path), 40)
    assert path in "".join(shown) and max(map(len, shown)) <= 40


@pytest.mark.parametrize(("ending", "code"), [("over", "32"), ("going_on", "32"), ("torn", "31"), (None, "31")])
def test_colours_only_where_they_are_asked_for(ending: str | None, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Good news is green, bad news red, and nothing is said by colour alone."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    status = status_with(ending=ending)
    colored = draw(status, now=NOW, plain=True, color=True, width=80)
    assert re.search(rf"\x1b\[[\d;]*{code}mverdict", colored)
    without = "\n".join(line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", colored).splitlines())
    assert without.splitlines() == lines(status)


def test_as_wide_as_columns_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert draw(STATUS, now=NOW, plain=True, color=False).splitlines() == lines(STATUS, 40)
