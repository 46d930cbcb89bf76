# What the scenes share: a key path of their own, two programs that say what they do, and nothing that stays behind.
# run_demo.sh reads this file, and then the scene, which has a function play.

set_colours() {
    bold='' dim='' green='' blue='' yellow='' magenta='' cyan='' plain=''
    if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
        bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' blue=$'\e[34m' plain=$'\e[0m'
        yellow=$'\e[33m' magenta=$'\e[35m' cyan=$'\e[36m'
    fi
}

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
    "$python" "$program.py" --key-path "$key_path" "${family[@]}" "$@" <&0 2>&1 | prefix "$name" "$colour" &
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

# What remains when a scene ends or is interrupted: no process, no object, no file.
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

status() {
    "$python" reader.py --key-path "$key_path" "${family[@]}" --status "$@" 2>&1
}

show_nothing_left() {
    heading "$1"
    if [ ${#family[@]} -eq 0 ]; then show_ours; else show_names; fi
    printf '%s%-8s $%s python reader.py --status\n' "$blue" reader "$plain"
    { status || true; } | prefix reader "$blue"
    if [ -n "$(ours)$(names)" ]; then
        stop "something is left"
    fi
}

# on_stage FUNCTION [OPTION ...]: play it with keys of its own, all its programs with these options; whatever happens,
# nothing stays behind.
on_stage() {
    need ipcs util-linux util-linux
    set_up_demo
    set_colours
    python=$PWD/.venv/bin/python
    started=() shown='' keys=() family=("${@:2}")
    SECONDS=0
    scratch=$(mktemp -d)
    trap clean_up EXIT
    choose_key_path
    # In a process group of its own: Ctrl-C comes to this shell alone, and clean_up ends all the others at once.
    set -m
    perform "$1" </dev/null &
    shown=$!
    set +m
    wait "$shown"
}

perform() {
    set +m
    printf 'Every program here runs with --key-path %s as well.\n' "$key_path"
    "$1"
}
