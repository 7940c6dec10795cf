# The far side of connection.py, after machine.sh: reads a line of shell at a time from stdin and evaluates it.
#
# What is asked for is answered by "edgec CODE SIZE...", and then the contents of so many files one after another;
# in place of a size "-" says that there is no such file and "!" that it is none. The end of stdin is the end
# of everything: what runs is killed and the folder of this session removed. So nothing stays when edgec is
# interrupted or the connection drops. Files are kept in the cache under their sha256.

umask 077
export LC_ALL=C
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/edgec/programs # beside what an edgec that runs there caches
mkdir -p "$cache" && work=$(mktemp -d "$cache/run-XXXXXX") || exit 1
group=

end_group() { [ -z "$group" ] || kill -s KILL -- "-$group" "$group"; } 2>/dev/null
finish() {
    trap - EXIT
    end_group
    cd / && rm -rf "$work"
} 2>/dev/null
trap finish EXIT
trap 'exit 1' HUP INT TERM PIPE

command -v setsid >/dev/null && command -v sha256sum >/dev/null || {
    echo "it has no setsid or no sha256sum, which come with util-linux, coreutils and busybox" >&2
    exit 1
}

# report CODE FILE...
cat >"$work/report" <<'END' || exit 1
report() {
    line="edgec $1"
    shift
    for file; do
        if [ -f "$file" ] && [ ! -L "$file" ]; then
            line="$line $(($(wc -c <"$file")))"
        elif [ -e "$file" ] || [ -L "$file" ]; then
            line="$line !"
        else
            line="$line -"
        fi
    done
    echo "$line"
    for file; do
        [ ! -f "$file" ] || [ -L "$file" ] || cat "$file"
    done
}
END
. "$work/report"

# LIMIT "FILE..." PROGRAM ARGUMENT...: runs a program that may write files of so many blocks, in a group of
# processes that this leads, and ends what is left of it.
cat >"$work/run" <<'END' || exit 1
. ./report
limit=$1 wanted=$2 program=$3
shift 3
cd files
(
    ulimit -c 0
    ulimit -f "$limit"
    exec "$program" "$@"
) </dev/null >../stdout 2>../stderr
report $? ../stdout ../stderr $wanted
kill -s KILL 0
END

# Whether the cache has DIGEST, whole: a board that lost power may have kept half of it.
have() {
    [ "$(sha256sum <"$cache/$1" | cut -c 1-64)" = "$1" ] && touch "$cache/$1" && report 0 || report 1
} 2>/dev/null

# put DIGEST BYTES: keeps so many bytes that follow on stdin.
put() {
    if why=$(head -c "$2" 2>&1 >"$work/new") && [ "$(wc -c <"$work/new")" -eq "$2" ] &&
        why=$(chmod 500 "$work/new" 2>&1 && mv -f "$work/new" "$cache/$1" 2>&1); then
        report 0
    else
        printf 'edgec 1 %s\n%s' "${#why}" "$why" # there may be no room for another file
        exit 1 # what else comes on stdin belongs to this one
    fi
}

# shrink KIBIBYTES: removes the oldest files of a cache larger than that. The eight newest stay in any case: a program
# and its data are among them.
shrink() {
    (cd "$cache" && ls -t | grep -v '^run-' | tail -n +9 | sed -n '1!G;h;$p' | while read -r oldest; do
        [ "$(du -sk . | cut -f 1)" -gt "$1" ] || break
        rm -f "$oldest"
    done) 2>/dev/null
}

# What nobody has used for DAYS, and folders of sessions that a board without power couldn't end.
tidy() {
    (cd "$cache" && find . ! -name . -prune -mtime "+$1" -exec rm -rf {} +) 2>/dev/null
}

# An empty folder for the next program.
fresh() {
    end_group
    group=
    rm -rf "$work/files"
    mkdir "$work/files" || exit 1
}

# Whether another byte can be written: a program that failed for want of room may have had none to say so.
room() {
    echo >"$work/room" && report 0 || report 1
} 2>/dev/null

cd "$work" || exit 1
echo "edgec shell"
while IFS= read -r line; do
    eval "$line"
done
