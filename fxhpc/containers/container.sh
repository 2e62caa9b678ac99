# Runs on a node whose manager, or some of whose workers, are to be in a container: starts it, hands
# signals on, and sees that nothing of it is left. In it runs $script: manager.sh, which is launch.sh
# where there is no container, or seed.sh.
# What stands above this line in the installed copy: which container, and what is seen in it.

host=$(hostname 2>/dev/null || uname -n)
nothing="nothing is run without it"
name= client= # of the container, where it has one; and of the command that runs it

fatal() {
    echo "fxhpc: fatal: $*" >&2
    exit 78
}

# --- what the node must have --------------------------------------------------------------------
style=$kind
case $kind in
podman-hpc) style=podman ;;
singularity) style=apptainer ;;
esac
[ "$style" = custom ] || command -v "$kind" >/dev/null 2>&1 ||
    fatal "there is no $kind on node $host, and $who are to be in a container" \
        "($named_kind): load it in worker_init, or ask for nodes that have it; $nothing"
case $style:$image in
apptainer:*://*) ;;
apptainer:*)
    [ -e "$image" ] || fatal "there is no image $image on node $host ($named_image): name one" \
        "that nodes see; $nothing"
    ;;
docker:*) # Podman may go by that name
    case $("$kind" --version 2>/dev/null) in podman*) style=podman ;; esac
    ;;
esac

# --- what ties the container to this script -----------------------------------------------------
# Who kills a job, kills what started the container, and not what runs in it: that has another
# parent. So the manager holds the other end of a named pipe, and ends when nobody has this one.
# (What seed.sh starts is tied to its manager, by another way.)
# What it is to find in its environment goes in a file: arguments can be seen by everybody.
mask=$(umask)
umask 077
tie=tie-$host-$$
rm -f "$blocks/$tie" "$blocks/$tie.env"
trap 'rm -f "$blocks/$tie" "$blocks/$tie.env"' EXIT
mkfifo "$blocks/$tie" || fatal "node $host cannot make a named pipe in $blocks, which the" \
    "container is tied to: set \`state_dir\` to a file system that has them; $nothing"
exec 9<>"$blocks/$tie"
LC_ALL=C awk '
    function say(name, value) {
        gsub(/\047/, "\047\\\\\047\047", value)
        printf "export %s=\047%s\047\n", name, value
    }
    BEGIN {
        for (name in ENVIRON)
            if (name ~ /^(FXHPC|PARSL|SLURM|SRUN|PBS|LSB|OMP|KMP|GOMP|FLUX)_[A-Za-z0-9_]*$/ ||
                name ~ /^(NCPUS|NSLOTS|NHOSTS|JOB_ID|_CONDOR_JOB_ID|USER|LOGNAME|TZ)$/ ||
                name ~ /^(CUDA|ROCR|HIP)_VISIBLE_DEVICES$|^ZE_AFFINITY_MASK$/)
                if (name !~ /^FXHPC_(LAUNCH|INSIDE|PYTHON_BEFORE)$/)
                    say(name, ENVIRON[name])
    }' >"$blocks/$tie.env" || fatal "node $host cannot write $blocks/$tie.env"
echo "umask $mask" >>"$blocks/$tie.env"
umask "$mask"

# --- the command --------------------------------------------------------------------------------
set -f
lines='
'
words=$IFS
IFS=$lines
for place in $made; do
    [ -d "$place" ] || mkdir -p "$place" 2>/dev/null
done
case $style in
custom)
    set -- /bin/sh -c "$(printf '%s\n' "$options" | sed "s/@TIE@/$tie/g")"
    ;;
apptainer)
    # It hands on the environment, and what was meant for the node's Python is not for the image's.
    unset PYTHONHOME PYTHONPATH
    set -- "$kind" exec
    for place in $made $seen; do
        [ -d "$place" ] && set -- "$@" --bind "$place"
    done
    ;;
*)
    name=fxhpc-$host-$$-$(date +%s)
    user=$(id -u):$(id -g)
    set -- "$kind" run --rm --name "$name" --network host \
        --security-opt no-new-privileges --security-opt label=disable
    # Its limits are those of the job; but Podman lowers its own number of processes to that of
    # pids, and cannot raise it again.
    limits=$(awk -v most="$(cat /proc/sys/kernel/pid_max)" '
        function say(name, soft, hard, most) {
            if (most && (soft == "unlimited" || soft + 0 > most + 0)) soft = most
            if (most && (hard == "unlimited" || hard + 0 > most + 0)) hard = most
            sub("unlimited", -1, soft)
            sub("unlimited", -1, hard)
            print name "=" soft ":" hard
        }
        /^Max open files/ { say("nofile", $4, $5) }
        /^Max processes/ { say("nproc", $3, $4, most) }
        /^Max locked memory/ { say("memlock", $4, $5) }
        /^Max stack size/ { say("stack", $4, $5) }' /proc/self/limits)
    for limit in $limits; do
        set -- "$@" --ulimit "$limit"
    done
    if [ "$style" = podman ]; then
        [ "$(id -u)" = 0 ] || set -- "$@" --userns keep-id
    else
        security=$("$kind" info --format '{{.SecurityOptions}}' 2>&1) || {
            echo "fxhpc: docker cannot be used on node $host: $security; $nothing" >&2
            exit 125
        }
        case $security in
        *rootless*) user=0:0 ;; # who is root in it is this user outside
        *)
            IFS=$words
            for group in $(id -G); do
                set -- "$@" --group-add "$group"
            done
            IFS=$lines
            ;;
        esac
        # Its parent is a daemon, which knows nothing of the job's cores.
        cores=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)
        [ -z "$cores" ] || set -- "$@" --cpuset-cpus "$cores"
    fi
    set -- "$@" --user "$user"
    for place in $made $seen; do
        [ -d "$place" ] && set -- "$@" -v "$place:$place"
    done
    if [ -d "$home" ]; then
        set -- "$@" -e "HOME=$home" -e PYTHONNOUSERSITE=1 # those packages are of the node's Python
    fi
    ;;
esac
IFS=$words
set +f
if [ "$style" != custom ]; then
    eval "set -- \"\$@\" $options"
    set -- "$@" "$image" /bin/sh "$blocks/$script" "$tie"
fi

# --- its life -----------------------------------------------------------------------------------
# Signals go to the manager by the pipe: a runtime may lose them, as podman does when Slurm ends
# what podman has started to hand on the one before.
trap 'printf T >&9; kill -TERM "$client" 2>/dev/null' TERM INT HUP
trap 'printf D >&9' USR1
"$@" </dev/null 9<&- &
client=$!
while :; do # a signal ends `wait` too
    wait "$client"
    code=$?
    kill -0 "$client" 2>/dev/null || break
done
# It may have ended within the `wait` that a signal ended: that has its code still.
wait "$client"
last=$?
[ "$last" = 127 ] || code=$last
exec 9<&-
if [ "$code" -gt 128 ] && [ -n "$name" ]; then
    # What was killed may have been the command alone.
    "$kind" stop -t 5 "$name" >/dev/null 2>&1
    "$kind" rm -f "$name" >/dev/null 2>&1
fi
case $code in
126 | 127)
    fatal "node $host could not run /bin/sh in $inside, or has no command for it: see above, or" \
        "the job's standard error; $nothing"
    ;;
125 | 255)
    echo "fxhpc: node $host could not start $inside: see above, or the job's standard error;" \
        "$nothing" >&2
    ;;
esac
exit "$code"
