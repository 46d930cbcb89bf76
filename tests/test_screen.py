"""How --status and --watch look: at 80 columns and at 40, in ASCII where it is asked for, whatever the numbers are."""

from __future__ import annotations

import copy
import re
import time
from typing import Any

import pytest

from common.channel.ending import Ending
from common.layout import SEMAPHORES
from common.show.screen import Moved, draw, draw_message

NOW = 1_800_000_000
SLOT = 262144


def slot(number: int, state: str = "full", pid: int | None = 4711, slots: int = 8, **fragment: Any) -> dict[str, Any]:
    """A slot of the snapshot; one that is published says what is in it, a fragment of record 2 if nothing else."""
    where = {"slot": number % slots, "fragment": number, "state": state, "pid": pid}
    if state in ("free", "filling"):
        return where
    told = {"length": SLOT, "record": 2, "offset": number * SLOT, "records": 0, "taken": 0, "writer_pid": 4711}
    return {**told, "total": 40 * SLOT, "flags": [], **where, **fragment}


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
    "slots": [
        slot(6, "reading", 4712),
        *(slot(number) for number in (7, 8, 9, 10)),
        slot(11, "filling"),
        *(slot(number, "free", None) for number in (12, 13)),
    ],
    "newest": slot(10),
    "turns": {"writer_turn": "pid 4711", "reader_turn": "pid 4712"},
    "ending": "going_on",
    "damage": None,
}


def status_with(**changes: Any) -> dict[str, Any]:
    """STATUS with other values: header__head=3 is that of its header, and then its slots are no more."""
    status = copy.deepcopy(STATUS)
    if any(path.startswith("header__") for path in changes):
        status["slots"] = []
    for path, value in changes.items():
        *parents, name = path.split("__")
        inner = status
        for parent in parents:
            inner = inner[parent]
        inner[name] = value
    return status


def lines(status: dict[str, Any], width: int = 80, *, plain: bool = True, **how: Any) -> list[str]:
    """The screen, a line an item."""
    return draw(status, now=NOW, plain=plain, color=False, width=width, **how).splitlines()


def row(status: dict[str, Any], label: str, width: int = 80) -> str:
    """What stands behind a label, however many lines it takes."""
    text = "\n".join(line[: 41 if width == 80 and "id " in line else None] for line in lines(status, width))
    found = re.search(rf"^{label:8} (.*(?:\n {{9}}.*)*)", text, re.MULTILINE)
    assert found, (label, text)
    return " ".join(found[1].split())


RING = [
    "slots    [###...##] unread 5",
    "         0 full         pid 4711    262144 B record 2, fragment 9 of 40",
    "         1 full         pid 4711    262144 B record 2, fragment 10 of 40",
    "         2 full         pid 4711    262144 B record 2, fragment 11 of 40",
    "head     3 being filled pid 4711",
    "         4 free",
    "         5 free",
    "tail     6 being read   pid 4712    262144 B record 2, fragment 7 of 40",
    "         7 full         pid 4711    262144 B record 2, fragment 8 of 40",
]
PEOPLE = [
    "so far   11 published (head), 6 consumed (tail); 2 records",
    "writing  pid 4711",
    "reading  pid 4712",
    "writers  14 alive; 3 joined, 2 left",
    "asleep   nobody",
    "verdict  going on",
]
OBJECTS = [
    "segment  id 7, key 0x012816e5           semaphores   id  value  asleep",
    "size     2105344 B, 8 slots of 262144   full_slots   90     10       0",
    "owner    uid 1001, gid 1002, mode 0660  empty_slots  91     11       0",
    "creator  uid 1003, gid 1004, pid 17017  writer_turn  92     12       0",
    "nattch   2, last pid 17018              reader_turn  93     13       0",
    "attached 2 min ago, detached never      writers      94     14       0",
    "changed  2 h ago",
]
NARROW = [
    "slots    [###...##] unread 5",
    "         0 full, pid 4711, 262144 B,",
    "           record 2, fragment 9 of 40",
    "         1 full, pid 4711, 262144 B,",
    "           record 2, fragment 10 of 40",
    "         2 full, pid 4711, 262144 B,",
    "           record 2, fragment 11 of 40",
    "head     3 being filled, pid 4711",
    "         4 free",
    "         5 free",
    "tail     6 being read, pid 4712, 262144",
    "           B, record 2, fragment 7 of 40",
    "         7 full, pid 4711, 262144 B,",
    "           record 2, fragment 8 of 40",
    "so far   11 published (head), 6 consumed",
    "         (tail); 2 records",
    *PEOPLE[1:],
    *(line[:40].rstrip() for line in OBJECTS),
    *(line[40:] for line in OBJECTS[:6]),
]


def test_at_80_columns() -> None:
    assert lines(STATUS) == ["channel 0 of /home/student/shmpair (not atomic)", *RING, *PEOPLE, "", *OBJECTS]


def test_at_40_columns() -> None:
    """One below the other, and nothing is missing."""
    assert lines(STATUS, 40) == ["channel 0 of /home/student/shmpair (not", "atomic)", *NARROW]


# A frame of --watch: the same picture, with what moved.

MOVED = Moved((0, 0, 1_000_000, 7_000_000, 500_000), 8_500_000)
RATE = "rate     500.0 kB/s [__.#.] at most 7.0 MB/s; 8.5 MB seen"


def test_a_frame_at_80_by_24() -> None:
    """Whole: the blank line goes first."""
    shown = lines(STATUS, height=24, moved=MOVED)
    assert shown == ["channel 0 of /home/student/shmpair (live; q leaves)", *RING, *PEOPLE, RATE, *OBJECTS]
    assert len(shown) == 24


def test_a_frame_at_200_by_50_has_room_to_breathe() -> None:
    shown = lines(STATUS, 200, height=50, moved=MOVED)
    more = [
        f"{line}, from byte {(int(line[9]) - 6) % 8 * SLOT + 6 * SLOT} of {40 * SLOT}" for line in RING if " of" in line
    ]
    assert [line for line in shown if " of " in line][1:-1] == more
    assert shown[-8:] == ["", *OBJECTS]
    assert max(map(len, shown)) <= 120, "what is wider is only pulled apart"


def test_a_window_that_is_too_low_says_so() -> None:
    assert lines(STATUS, height=12, moved=MOVED) == [
        "channel 0 of /home/student/shmpair (live; q leaves)",
        RING[0],
        "tail     6 being read   pid 4712    262144 B record 2, fragment 7 of 40",
        "head     3 being filled pid 4711",
        *PEOPLE,
        RATE,
        "(a larger window shows more)",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("height", [1, 2, 10, 24, 25, 50])
@pytest.mark.parametrize("big", [False, True])
def test_a_frame_fits_its_window(width: int, height: int, big: bool) -> None:
    shown = lines(LARGE if big else STATUS, width, height=height, moved=MOVED)
    assert len(shown) <= height and max(map(len, shown)) <= width


@pytest.mark.parametrize(("height", "shown"), [(23, "01234567"), (22, "6701234"), (19, "6703"), (1, "63")])
def test_where_there_is_no_room_for_all_slots(height: int, shown: str) -> None:
    """Those that are read next, and the one at the head."""
    drawn = lines(STATUS, height=height)
    assert "".join(line[9] for line in drawn if re.match(r".{9}\d (free|full|being)", line)) == shown


@pytest.mark.parametrize(
    ("changes", "marks"),
    [
        ({"head": 6, "unread": 0}, {6: "both"}),
        ({"head": 14, "unread": 8}, {6: "both"}),
        ({"head": 15, "tail": 9, "unread": 6}, {1: "tail", 7: "head"}),
    ],
)
def test_where_tail_and_head_are(changes: dict[str, int], marks: dict[int, str]) -> None:
    status = copy.deepcopy(STATUS)
    status["header"] |= changes
    shown = {int(line[9]): line[:8].strip() for line in lines(status)[2:10]}
    assert shown == {number: marks.get(number, "") for number in range(8)}


ONE = {"length": 5, "records": 1, "offset": 0, "total": 5, "flags": ["first", "last"]}


@pytest.mark.parametrize(
    ("fragment", "said"),
    [
        (ONE, "record 2, whole"),
        ({**ONE, "flags": ["first", "last", "checked"]}, "record 2, whole, with a CRC-32"),
        ({**ONE, "taken": 3}, "record 2, whole; 3 B taken"),
        ({**ONE, "flags": ["first", "last", "lines"]}, "1 line from record 2"),
        ({**ONE, "records": 12, "flags": ["first", "last", "lines"]}, "12 lines from record 2"),
        ({"length": 0, "flags": ["aborted"]}, "record 2, given up"),
        ({"total": None, "offset": 0, "flags": ["first"]}, "record 2 from byte 0"),
        ({"total": None, "offset": 70000, "length": 4096}, "record 2 from byte 70000"),
        ({"total": 70001, "offset": 70000, "length": 1, "flags": ["last"]}, "record 2 from byte 70000 to its end"),
        ({"offset": SLOT, "length": 3}, f"record 2 from byte {SLOT}"),
        ({"offset": 0}, f"record 2, fragment 1 of 40, from byte 0 of {40 * SLOT}"),
        ({"offset": 39 * SLOT}, f"record 2, fragment 40 of 40, from byte {39 * SLOT} of {40 * SLOT}"),
        (
            {"offset": 2 * SLOT, "length": 1, "total": 2 * SLOT + 1, "flags": ["last"]},
            f"record 2, fragment 3 of 3, from byte {2 * SLOT} of {2 * SLOT + 1}",
        ),
        ({"offset": SLOT, "length": 9, "total": 0}, f"record 2 from byte {SLOT}"),
    ],
)
def test_what_is_in_a_slot(fragment: dict[str, Any], said: str) -> None:
    status = {**STATUS, "slots": [slot(6, **fragment)]}
    length = fragment.get("length", SLOT)
    assert lines(status, 200)[2] == f"tail     6 full         pid 4711    {length:>6} B {said}"


def test_a_slot_that_holds_nonsense() -> None:
    """It is said, and who is at work on it."""
    nonsense = {"damage": "fragment 6 claims 9999999 bytes, 0 of them taken"}
    broken = {"slot": 6, "fragment": 6, "state": "reading", "pid": 4712, **nonsense}
    assert lines({**STATUS, "slots": [broken], "newest": nonsense})[2:5] == [
        "tail     6 being read   pid 4712             fragment 6 claims 9999999 bytes, 0",
        "                                             of them taken",
        "so far   11 published (head), 6 consumed (tail)",
    ]


def test_somebody_at_work_whom_we_cannot_see() -> None:
    assert lines({**STATUS, "slots": [slot(11, "filling", None)]})[2] == "head     3 being filled pid ?"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ((0, 0, 0), "0.0 B/s [___] at most 0.0 B/s; 9.0 B seen"),
        ((0, 7, 1), "1.0 B/s [_#.] at most 7.0 B/s; 9.0 B seen"),
        (tuple(range(8)), "7.0 B/s [_.:-=+*#] at most 7.0 B/s; 9.0 B seen"),
        ((2**60, 1, 2**60 - 1), "1152921504.61 GB/s [#.#] at most 1152921504.61 GB/s; 9.0 B seen"),
        ((9, 3) + 23 * (3,), f"3.0 B/s [{24 * '-'}] at most 9.0 B/s; 9.0 B seen"),
    ],
)
def test_the_rate_and_its_history(seconds: tuple[int, ...], said: str) -> None:
    """The highest second is at the top, and one in which anything moved is above the ground."""
    shown = lines(STATUS, moved=Moved(seconds, 9))
    assert shown[16] == f"rate     {said}"


@pytest.mark.parametrize("plain", [False, True])
def test_a_frame_without_a_channel(plain: bool) -> None:
    where = {"channel": 3, "key_path": "/tmp/ä"}
    drawn = draw_message(where, "waiting: ä\x1b[2J", plain=plain, color=False, moved=MOVED, width=80).splitlines()
    assert drawn == (
        [r"channel 3 of /tmp/\xc3\xa4 (live; q leaves)", r"state    waiting: \xc3\xa4\x1b[2J", RATE]
        if plain
        else [
            "channel 3 of /tmp/ä (live; q leaves)",
            r"state    waiting: ä\x1b[2J",
            RATE.translate(str.maketrans("_.#", "▁▂█"))
            .replace("500▂0", "500.0")
            .replace("7▂0", "7.0")
            .replace("8▂5", "8.5"),
        ]
    )


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
        return set(re.findall(r"\w+", re.sub(r"\[[#+.]*\]|\([\d.]+ a cell\)", "", " ".join(" ".join(screen).split()))))

    shown = lines(status, width)
    assert max(map(len, shown)) <= width
    more = words(lines(status, 200)) - words(lines(status, 100))  # where in its record a fragment is
    assert words(shown) == words(lines(status, 100)) | (more if width == 200 else set())


def test_the_largest_numbers_fit_one_screen_too() -> None:
    assert len(lines({**LARGE, "slots": []})) <= 24


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
    ("slots", "tail", "head", "picture", "text"),
    [
        (8, 0, 0, "........", "unread 0: empty"),
        (8, 8, 8, "........", "unread 0: empty"),
        (8, 0, 8, "########", "unread 8: full"),
        (8, 5, 13, "########", "unread 8: full"),
        (8, 7, 9, "#......#", "unread 2"),
        (8, 0, 7, "#######.", "unread 7"),
        (1, 3, 3, ".", "unread 0: empty"),
        (1, 3, 4, "#", "unread 1: full"),
        (32, 0, 1, "#" + 31 * ".", "unread 1"),
        (64, 0, 64, 32 * "#", "unread 64: full (2 a cell)"),
        (64, 1, 4, "+#" + 30 * ".", "unread 3 (2 a cell)"),
        (1000, 990, 1010, "+" + 30 * "." + "+", "unread 20 (31.2 a cell)"),
        (1000, 0, 1000, 32 * "#", "unread 1000: full (31.2 a cell)"),
        (32 * 12500, 0, 1, "+" + 31 * ".", "unread 1 (12500 a cell)"),
        (32 * 1000, 0, 1, "+" + 31 * ".", "unread 1 (1000 a cell)"),
        (2**32 - 1, 2**33, 2**33 + 2**31, None, "unread 2147483648 (134217728 a cell)"),
    ],
)
def test_the_slots_as_they_lie(slots: int, tail: int, head: int, picture: str | None, text: str) -> None:
    """The picture; many slots share a cell."""
    status = status_with(header__slot_count=slots, header__tail=tail, header__head=head, header__unread=head - tail)
    shown = lines(status)
    drawn = re.match(r"slots    \[(.*?)\] (.*)", shown[1])
    assert drawn and drawn[2] == text
    assert picture is None or drawn[1] == picture
    assert len(drawn[1]) == min(slots, 32)
    assert shown[2] == f"so far   {head} published (head), {tail} consumed (tail); 2 records"


@pytest.mark.parametrize("slots", [64, 1000])
def test_many_slots_are_fewer_cells_where_it_is_narrow(slots: int) -> None:
    shown = lines(status_with(header__slot_count=slots, header__head=slots, header__tail=0, header__unread=slots), 40)
    assert f"slots    [{8 * '#'}] unread {slots}: full" in shown


@pytest.mark.parametrize(("slots", "unread"), [(8, 9), (8, -1), (0, 0), (8, 2 - 2**64)])
def test_what_cannot_be_is_not_drawn(slots: int, unread: int) -> None:
    status = status_with(header__slot_count=slots, header__unread=unread, damage="its geometry is absurd", ending=None)
    assert row(status, "slots") == f"unread {unread}, which cannot be drawn"
    assert row(status, "so far").startswith("11 published (head), 6 consumed (tail)")
    assert row(status, "verdict") == "damaged: its geometry is absurd"
    assert row(status, "size", 40) == "2105344 B", "what the header says of slots is not to be believed"


@pytest.mark.parametrize("ending", Ending)
def test_the_verdict_in_words(ending: Ending) -> None:
    assert row(status_with(ending=ending.name.lower()), "verdict") == ending.value


def test_the_verdict_says_what_is_left_to_do() -> None:
    last = status_with(semaphores__writers__value=0)
    assert (
        row(last, "verdict") == "going on: no writer is left, 1 writer stopped before the end; a reader takes the rest"
    )
    said = status_with(semaphores__writers__value=0, header__writers_left=3)
    assert row(said, "verdict") == "going on: no writer is left; a reader takes the rest"


def test_the_verdict_on_one_whose_creator_died() -> None:
    half_made = status_with(header__magic="SHMPAIR?", damage="its magic is ...", ending=None)
    assert row(half_made, "verdict") == "half-made: its creator died; the next start of its owner clears it"


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
