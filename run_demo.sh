#!/usr/bin/env bash
# Shows, tests or opens the pair. Needs nothing but Linux and Python 3.10: it sets itself up in .venv. What it shows is
# in common/scenes/.
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
./run_demo.sh crash     kill -9 of each side in the middle of a file, and how
                        both go on; --ipc posix: over POSIX
./run_demo.sh tmux      writer, reader and what is between them, live; options
                        go to both, such as --channel 3 or --slow 1
./run_demo.sh lab       experiments for the lab sheet: the list; lab NAME: one
                        of them; lab --all; lab check [N [COMMAND]]: exercises
./run_demo.sh test      ruff, mypy and pytest; arguments go to pytest
./run_demo.sh bench     how fast it is, against pipes and copies: a quarter
                        of an hour, or --quick; --help shows the options
./run_demo.sh compare   our ring against pipes, sockets and queues: under
                        half a minute; --help shows the options
./run_demo.sh report    the lab report to hand in, of a run made for it:
                        --name NAME --roll NUMBER; --help shows the options
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

run_lab() {
    set_up_demo
    exec .venv/bin/python -m common.lab "$@"
}

report() {
    need ipcs util-linux util-linux
    set_up_demo
    exec .venv/bin/python -m common.show.report "$@"
}

# scene NAME [OPTION ...]: one of common/scenes/, each a small file that is its own explanation.
scene() {
    . common/scenes/stage.sh
    . "common/scenes/$1.sh"
    play "${@:2}"
}

main() {
    root=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
    cd -- "$root"
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
    [ "$(uname -s)" = Linux ] || stop "this needs Linux: macOS has no semtimedop, Windows no System V IPC"
    case ${1:-demo} in
        demo | crash | tmux) scene "${1:-demo}" "${@:2}" ;;
        test) run_tests "${@:2}" ;;
        bench) run_bench "${@:2}" ;;
        compare) compare "${@:2}" ;;
        lab) run_lab "${@:2}" ;;
        report) report "${@:2}" ;;
        help | -h | --help) usage ;;
        *)
            say "run_demo.sh: there is no verb '$1'"
            usage >&2
            exit 2
            ;;
    esac
}

main "$@"
