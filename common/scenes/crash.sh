# The crash: kill -9 of each side in the middle of a file, and how both go on.

picture() {
    printf '\n'
    status
}

explain() {
    printf '%s%s%s\n' "$bold" "$1" "$plain"
}

# stop_at NAME COLOUR STEP [ARGUMENT ...]: start a program, and hear it until it is paused before this step; $victim is its pid.
stop_at() {
    local name=$1 colour=$2 line
    shift 2
    printf '%s%-8s $%s python %s.py --pause-at %s\n' "$colour" "$name" "$plain" "$name" "$*"
    "$python" "$name.py" --key-path "$key_path" "${family[@]}" --pause-at "$@" >"$scratch/said" 2>&1 &
    victim=$!
    exec 3<"$scratch/said"
    while IFS= read -r line <&3; do
        prefix "$name" "$colour" <<<"$line"
        [[ $line != *"paused before"* ]] || return 0
    done
    stop "it ended before it came there"
}

# strike: what no program can catch.
strike() {
    printf '         $ kill -9 %d\n' "$victim"
    { kill -9 "$victim" && wait "$victim" || true; } 2>/dev/null # bash would say "Killed"
}

show_crash() {
    local undone="SEM_UNDO: the kernel gave its turn back"
    [ ${#family[@]} -eq 0 ] || undone="The kernel dropped its locks, and with them its turn"
    mkfifo "$scratch/said"
    head -c 1M /dev/urandom >"$scratch/sent"

    heading "1. A writer in the middle of a file: two slots are published, the third is filled"
    stop_at writer "$green" publish:3 --slots 4 --slot-size 64K --file "$scratch/sent"
    picture
    heading "2. It is killed"
    strike
    picture
    explain "$undone. What it published stays; the slot that it had filled never was."

    heading "3. A reader in the middle of that: two slots are out, the second is not committed"
    stop_at reader "$blue" commit:2 --output "$scratch/received"
    picture
    heading "4. It is killed"
    strike
    picture
    explain "$undone. $(stat -c %s "$scratch/received") bytes are in the file; tail says that 65536 of them count."

    heading "5. Both go on: each at the first byte that does not count yet"
    reader --resume --output "$scratch/received"
    writer --resume --file "$scratch/sent"
    wait_all
    (cd "$scratch" && sha256sum sent received)
    cmp "$scratch/sent" "$scratch/received" || stop "the file arrived changed"
    show_nothing_left "After: nothing is left"
}

play() {
    case $* in
        '' | "--ipc sysv") on_stage show_crash ;;
        "--ipc posix") on_stage show_crash --ipc posix ;;
        *)
            say "run_demo.sh: crash has one option, --ipc posix"
            exit 2
            ;;
    esac
}
