# The demonstration: all that the pair can do, one after the other.

promised=30 # seconds, as the help and README.md say; the set-up is not in it

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

type_slowly() {
    local line
    for line in "$@"; do
        sleep 0.5
        printf '%s\n' "$line" 2>/dev/null || return 0
    done
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
    if [ "$(df -Pk "$scratch" | awk 'NR == 2 { print $4 }')" -lt 600000 ]; then
        stop "${TMPDIR:-/tmp} has less than 600 MB free; make room, or set TMPDIR to a place that has"
    fi
    show_nothing_left "Before: nothing is there"
    show_message
    show_lines
    show_file
    show_many
    show_posix
    show_nothing_left "After: nothing is left"
    show_time
}

play() {
    on_stage show_everything
}
