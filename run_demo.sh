#!/usr/bin/env bash
# Shows, tests or opens the pair. Needs nothing but Linux and Python 3.10: it sets itself up in .venv.
if [ -z "${BASH_VERSION:-}" ]; then # sh run_demo.sh, where sh is not bash
    command -v bash >/dev/null || { echo "run_demo.sh: bash is missing; install the package bash" >&2; exit 1; }
    exec bash "$0" "$@"
fi
set +o posix # sh run_demo.sh, where it is
set -euo pipefail

usage() {
    cat <<'TEXT'
./run_demo.sh           the demonstration: under half a minute, after a
                        set-up the first time; leaves nothing behind
./run_demo.sh test      ruff, mypy and pytest; arguments go to pytest
./run_demo.sh bench     how fast it is, against pipes and copies: a quarter
                        of an hour, or --quick; --help shows the options
./run_demo.sh compare   our ring against pipes, sockets and queues: under
                        half a minute; --help shows the options
./run_demo.sh report    the lab report to hand in, of a run made for it:
                        --name NAME --roll NUMBER; --help shows the options
./run_demo.sh tmux      writer and reader side by side; options go to both,
                        such as --channel 3
./run_demo.sh help      this text
PYTHON=PROGRAM, before any of them, names the Python that .venv is made with,
where there is none yet.
TEXT
}

# say LINE ...: to a person.
say() {
    printf '%s\n' "$@" >&2
}

# stop PROBLEM [DEBIAN_PACKAGE FEDORA_PACKAGE]: nothing half-works; say what is wrong and what to install.
stop() {
    say "run_demo.sh: $1"
    if [ $# -eq 3 ]; then
        say "  Debian, Ubuntu:  sudo apt install $2" "  Fedora:          sudo dnf install $3" "and start it again."
    fi
    exit 1
}

# need TOOL DEBIAN_PACKAGE FEDORA_PACKAGE
need() {
    command -v "$1" >/dev/null || stop "$1 is missing" "$2" "$3"
}

# need_write DIRECTORY: where one may not write, nothing is begun.
need_write() {
    [ -w "$1" ] || stop "may not write in $(readlink -f "$1"); copy the project to a place of your own, or ask its owner"
}

# ---------------------------------------------------------------------------------------------------- set-up

find_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.{14,13,12,11,10}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10) or sys.maxsize < 2**32)' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    stop "Python 3.10 or newer (64 bits) is missing" python3 python3
}

make_venv() {
    local base
    need_write .
    base=$(find_python)
    "$base" -c 'import ensurepip, venv' 2>/dev/null || stop "$base has no venv or ensurepip" python3-venv python3
    say "making .venv with $base"
    rm -rf .venv 2>/dev/null || stop "could not remove $PWD/.venv, which does not work; remove it and start it again"
    "$base" -m venv .venv || stop "$base could not make .venv in $PWD; is there room, and may we write there?"
}

# has MODULE ...: whether .venv can import them.
has() {
    .venv/bin/python -c "import importlib; [importlib.import_module(name) for name in '$*'.split()]" 2>/dev/null
}

# pip_install FILE: its packages into .venv.
pip_install() {
    local log=.venv/pip.log
    say "installing $1 (once)"
    if ! .venv/bin/python -m pip install --disable-pip-version-check --no-input -r "$1" >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        if grep -qE "Python\.h|gcc|'cc'|[Cc]ompiler" "$log"; then
            stop "pip had to compile a package and could not" "build-essential python3-dev" "gcc python3-devel"
        fi
        stop "pip could not install $1; is there a network, or a proxy to set?"
    fi
}

# set_up FILE MODULE ...: .venv with the packages of FILE. A stamp says what it has; what is broken is made anew.
set_up() {
    local file=$1 stamp=.venv/$1.installed wanted
    shift
    wanted=$(cat requirements.txt "$file" | sha256sum)
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && has "$@"; then
        return
    fi
    [ ! -d .venv ] || need_write .venv
    .venv/bin/python -m pip --version >/dev/null 2>&1 || make_venv
    pip_install "$file"
    if ! has "$@"; then
        make_venv
        pip_install "$file"
    fi
    printf '%s\n' "$wanted" >"$stamp"
}

# one_at_a_time COMMAND ...: nobody else sets up meanwhile; the lock is on this script.
one_at_a_time() {
    need flock util-linux util-linux
    exec 9<run_demo.sh
    flock 9
    "$@"
    exec 9<&-
}

set_up_demo() {
    one_at_a_time set_up requirements.txt jinja2 rich sysv_ipc posix_ipc
}

set_up_tools() {
    set_up_demo
    one_at_a_time set_up requirements-dev.txt hypothesis matplotlib mypy pexpect pytest pytest_timeout ruff xdist
}

set_up_tests() {
    set_up_tools
    if ! command -v strace >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
        say "installing strace"
        {
            export DEBIAN_FRONTEND=noninteractive
            timeout 60 apt-get install -y strace ||
                { timeout 120 apt-get update && timeout 60 apt-get install -y strace; }
        } >/dev/null 2>&1 </dev/null || say "could not; the tests that need it say so"
    fi
}

# ------------------------------------------------------------------------------------------- the demonstration

set_colours() {
    bold='' dim='' green='' blue='' yellow='' magenta='' cyan='' plain=''
    if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
        bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' blue=$'\e[34m' plain=$'\e[0m'
        yellow=$'\e[33m' magenta=$'\e[35m' cyan=$'\e[36m'
    fi
}

promised=30 # seconds, as the help and README.md say; the set-up is not in it
parts=() began=()

# heading TITLE: of the next part, which begins now.
heading() {
    parts+=("$1") began+=("$SECONDS")
    printf '\n%s== %s%s\n' "$bold" "$1" "$plain"
}

# prefix NAME COLOUR: what a program says behind "NAME |", the lines of its trace too; the records it delivers behind
# "NAME >".
prefix() {
    local line
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
            writer:\ * | reader:\ *) printf '%s%-8s |%s %s\n' "$2" "$1" "$plain" "${line#*: }" ;;
            \#\ * | ftok\(*\)\ =\ * | shm*\(*\)\ =\ *) printf '%s%-8s |%s %s\n' "$2" "$1" "$plain" "$line" ;;
            *) printf '%s%-8s >%s %s%s%s\n' "$2" "$1" "$plain" "$bold" "$line" "$plain" ;;
        esac
    done
}

# start NAME COLOUR PROGRAM [ARGUMENT ...]: in the background; wait_all waits for it.
start() {
    local name=$1 colour=$2 program=$3
    shift 3
    printf '%s%-8s $%s python %s.py%s\n' "$colour" "$name" "$plain" "$program" "${*:+ $*}"
    "$python" "$program.py" --key-path "$key_path" "$@" <&0 2>&1 | prefix "$name" "$colour" &
    started+=("$!")
}

wait_all() {
    local job
    for job in "${started[@]}"; do
        wait "$job" || stop "a program failed; what it said stands above"
    done
    started=()
}

writer() {
    start writer "$green" writer "$@"
}

reader() {
    start reader "$blue" reader "$@"
}

# ours: the lines of ipcs with one of our six keys.
ours() {
    ipcs -m -s | grep -F "${keys[@]/#/-e}" || true
}

# names: the files in /dev/shm that are named after our key.
names() {
    ls /dev/shm 2>/dev/null | grep -F "shmpair-${keys[0]#0x}" || true
}

show_names() {
    local found
    found=$(names)
    printf '%s/dev/shm%s | %s\n' "$dim" "$plain" "${found:-nothing that is named after our key}" |
        sed "2,\$s/^/         | /"
}

show_ours() {
    local found
    found=$(ours)
    printf '%sipcs%s     | %s\n' "$dim" "$plain" "${found:-nothing with one of our six keys}" |
        sed "2,\$s/^/         | /"
}

# What remains when the demonstration ends or is interrupted: no process, no object, no file.
clean_up() {
    trap '' INT TERM HUP
    if [ -n "$shown" ]; then
        kill -TERM -- "-$shown" 2>/dev/null || true
        local tries
        for tries in {1..100}; do
            kill -0 -- "-$shown" 2>/dev/null || break
            [ "$tries" -lt 100 ] || kill -KILL -- "-$shown" || true
            sleep 0.05
        done
    fi
    if [ -n "${key_path:-}" ] && [ -n "$(ours)" ]; then
        "$python" writer.py --key-path "$key_path" --quiet --remove || true
    fi
    if [ -n "${key_path:-}" ] && [ -n "$(names)" ]; then
        "$python" writer.py --key-path "$key_path" --ipc posix --quiet --remove || true
    fi
    rm -rf "$scratch"
}

# A key path of our own. ftok (here by hand, see ftok(3)) keeps few bits of it: make sure that nobody has its keys.
choose_key_path() {
    local number=0 id dev ino
    while
        number=$((number + 1))
        key_path=$scratch/key$number
        mkdir "$key_path"
        read -r dev ino <<<"$(stat -c '%d %i' "$key_path")"
        for id in {1..6}; do
            printf -v "keys[id - 1]" '0x%02x%02x%04x' "$id" $((dev & 0xff)) $((ino & 0xffff))
        done
        [ -n "$(ours)$(names)" ]
    do :; done
}

type_slowly() {
    local line
    for line in "$@"; do
        sleep 0.5
        printf '%s\n' "$line" 2>/dev/null || return 0
    done
}

show_message() {
    heading "1. The classic message, writer first: it waits in the segment, its writer is gone"
    writer hello
    wait_all
    show_ours
    reader
    wait_all
    show_ours
    heading "2. The same, reader first; and what both ask of the kernel (--trace)"
    reader --quiet --trace
    writer --quiet --trace again
    wait_all
}

show_lines() {
    heading "3. Live lines: each record arrives as soon as it is there"
    reader
    writer --lines < <(type_slowly "first line" "second line" "third and last")
    wait_all
}

show_file() {
    heading "4. A file of 256 MiB through a segment of 4 MiB"
    head -c 256M /dev/urandom >"$scratch/sent"
    reader --output "$scratch/received"
    writer --file "$scratch/sent"
    wait_all
    (cd "$scratch" && sha256sum sent received)
    cmp "$scratch/sent" "$scratch/received" || stop "the file arrived changed"
    rm "$scratch/sent" "$scratch/received"
}

# send_when_all_are_there FILE: a writer's input, which begins when all five have the segment attached.
send_when_all_are_there() {
    while [ -e "$scratch/not-yet" ]; do
        sleep 0.05
    done
    cat "$1" 2>/dev/null
}

show_many() {
    heading "5. Three writers and two readers: 30000 lines, each to exactly one reader"
    local name colours=("$green" "$yellow" "$magenta")
    touch "$scratch/not-yet"
    for name in 1 2 3; do
        seq -f "writer $name, line %05g" 10000 >"$scratch/lines$name"
        start "writer $name" "${colours[name - 1]}" writer --lines --slots 4 --slot-size 4K \
            < <(send_when_all_are_there "$scratch/lines$name")
    done
    start "reader 1" "$blue" reader --output "$scratch/reader1"
    start "reader 2" "$cyan" reader --output "$scratch/reader2"
    # A reader ends when no writer is left, and one that comes later would wait for the next channel.
    until status --json | grep -q '"attached": 5'; do
        sleep 0.05
        [ "$(jobs -rp | wc -l)" -eq 5 ] || stop "a program failed; what it said stands above"
    done
    rm "$scratch/not-yet"
    wait_all
    wc -l "$scratch/reader1" "$scratch/reader2" | sed "s|$scratch/||"
    sort "$scratch/reader1" "$scratch/reader2" | cmp - <(sort "$scratch"/lines[123]) ||
        stop "a line is lost, torn or double"
    printf 'sorted, they are the 30000 lines that were sent: none lost, none twice, none torn\n'
}

show_posix() {
    heading "6. The message of part 1 over POSIX (--ipc posix): names in /dev/shm in the place of keys"
    writer --ipc posix hello
    wait_all
    show_names
    reader --ipc posix
    wait_all
    show_names
}

status() {
    "$python" reader.py --key-path "$key_path" --status "$@" 2>&1
}

show_nothing_left() {
    heading "$1"
    show_ours
    printf '%s%-8s $%s python reader.py --status\n' "$blue" reader "$plain"
    { status || true; } | prefix reader "$blue"
    if [ -n "$(ours)$(names)" ]; then
        stop "something is left"
    fi
}

demonstrate() {
    need ipcs util-linux util-linux
    set_up_demo
    set_colours
    python=$PWD/.venv/bin/python
    started=() shown='' keys=()
    SECONDS=0
    scratch=$(mktemp -d)
    trap clean_up EXIT
    if [ "$(df -Pk "$scratch" | awk 'NR == 2 { print $4 }')" -lt 600000 ]; then
        stop "${TMPDIR:-/tmp} has less than 600 MB free; make room, or set TMPDIR to a place that has"
    fi
    choose_key_path
    # In a process group of its own: Ctrl-C comes to this shell alone, and clean_up ends all the others at once.
    set -m
    show_everything </dev/null &
    shown=$!
    set +m
    wait "$shown"
}

# show_time: how long it took, and where the time went if that is longer than promised.
show_time() {
    local part took=$SECONDS
    printf '\n%sDone in %d s.%s README.md goes on from here.\n' "$bold" "$took" "$plain"
    [ "$took" -gt "$promised" ] || return 0
    printf 'It promised %d s at most. The time went here:\n' "$promised"
    began[0]=0
    began+=("$took")
    for part in "${!parts[@]}"; do
        printf '%5d s  %s\n' $((began[part + 1] - began[part])) "${parts[part]}"
    done
}

show_everything() {
    set +m
    printf 'Every program here runs with --key-path %s as well.\n' "$key_path"
    show_nothing_left "Before: nothing is there"
    show_message
    show_lines
    show_file
    show_many
    show_posix
    show_nothing_left "After: nothing is left"
    show_time
}

# -------------------------------------------------------------------------------------------- the other verbs

run_tests() {
    set_up_tests
    local python=.venv/bin/python
    say "testing with $("$python" -V)"
    "$python" -m ruff check .
    "$python" -m ruff format --check .
    "$python" -m mypy
    exec "$python" -m pytest -n 3 "$@"
}

run_bench() {
    set_up_tools
    exec .venv/bin/python -m tests.bench "$@"
}

compare() {
    set_up_demo
    exec .venv/bin/python -m tests.bench.compare "$@"
}

report() {
    need ipcs util-linux util-linux
    set_up_demo
    exec .venv/bin/python -m common.show.report "$@"
}

# pane PROGRAM [OPTION ...]: one side of the tmux window, which stays until Enter so that the end can be read.
# Ctrl-C is for the program: a trap that does nothing keeps this shell, and unlike '' is not inherited.
pane() {
    local program=$1
    shift
    trap : INT
    .venv/bin/python "$program.py" "$@" || true
    read -rsp "$program.py has ended; Enter closes this side." _ || true
}

open_tmux() {
    need tmux tmux tmux
    if ! [ -t 0 ] || ! [ -t 1 ]; then
        stop "tmux needs a terminal"
    fi
    set_up_demo
    local me=$root/run_demo.sh left
    if [ -n "${TMUX:-}" ]; then
        left=$(tmux new-window -P -F '#{pane_id}' -n shmpair -- "$me" pane writer "$@")
    else
        left=$(tmux new-session -d -P -F '#{pane_id}' -x "$(tput cols)" -y "$(tput lines)" -- "$me" pane writer "$@")
    fi
    tmux split-window -h -t "$left" -- "$me" pane reader "$@"
    tmux select-pane -t "$left"
    if [ -z "${TMUX:-}" ]; then
        exec tmux attach-session -t "$left"
    fi
}

main() {
    root=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
    cd -- "$root"
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
    [ "$(uname -s)" = Linux ] || stop "this needs Linux: macOS has no semtimedop, Windows no System V IPC"
    case ${1:-demo} in
        demo) demonstrate ;;
        test) run_tests "${@:2}" ;;
        bench) run_bench "${@:2}" ;;
        compare) compare "${@:2}" ;;
        report) report "${@:2}" ;;
        tmux) open_tmux "${@:2}" ;;
        pane) pane "${@:2}" ;;
        help | -h | --help) usage ;;
        *)
            say "run_demo.sh: there is no verb '$1'"
            usage >&2
            exit 2
            ;;
    esac
}

main "$@"
