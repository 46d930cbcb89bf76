# One window: the writer to type in, the reader, and below both what is in the channel, live.

# pane SIDE [OPTION ...]: one side, which stays until Enter so that the end can be read.
# Ctrl-C is for the program: a trap that does nothing keeps this shell, and unlike '' is not inherited.
pane() {
    local side=$1
    shift
    trap : INT
    if [ "$side" = picture ]; then
        exec .venv/bin/python reader.py --watch "$@"
    fi
    .venv/bin/python "$side.py" "$@" || true
    read -rsp "$side.py has ended; Enter closes this side." _ || true
    # The second of the two takes the picture with it: the window itself counts them.
    tmux set-option -w -a -t "$TMUX_PANE" @closed x \; \
        if-shell -F -t "$TMUX_PANE" '#{==:#{@closed},xx}' "kill-window -t $TMUX_PANE"
}

# where [OPTION ...]: those of the options that lead to a channel, a word a line: the picture has no others.
where() {
    while [ $# -gt 0 ]; do
        case $1 in
            --key-path=* | --channel=* | --ipc=*) printf '%s\n' "$1" ;;
            --key-path | --channel | --ipc) printf '%s\n' "$1" "${2:-}" ;;
        esac
        shift
    done
}

open_window() {
    need tmux tmux tmux
    if ! [ -t 0 ] || ! [ -t 1 ]; then
        stop "tmux needs a terminal"
    fi
    set_up_demo
    local me=("$root/run_demo.sh" tmux pane) beside=-h channel writer
    mapfile -t channel < <(where "$@")
    if [ -n "${TMUX:-}" ]; then
        writer=$(tmux new-window -P -F '#{pane_id}' -n shmpair -- "${me[@]}" writer "$@")
    else
        writer=$(tmux new-session -d -P -F '#{pane_id}' -x "$(tput cols)" -y "$(tput lines)" -- "${me[@]}" writer "$@")
    fi
    tmux split-window -v -l 50% -t "$writer" -- "${me[@]}" picture "${channel[@]}"
    # Where half the width would break most lines, the reader is below the writer.
    [ "$(tmux display-message -p -t "$writer" '#{window_width}')" -ge 120 ] || beside=-v
    tmux split-window "$beside" -t "$writer" -- "${me[@]}" reader "$@"
    tmux select-pane -t "$writer"
    if [ -z "${TMUX:-}" ]; then
        exec tmux attach-session -t "$writer"
    fi
}

play() {
    if [ "${1:-}" = pane ]; then
        pane "${@:2}"
    else
        open_window "$@"
    fi
}
