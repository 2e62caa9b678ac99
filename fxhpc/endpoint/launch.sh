# Runs on each node of a block: picks the Python, and becomes a manager in it.
# What stands above this line in the installed copy names the endpoint's own Python, the manager's
# specification, and where fxhpc lies if no Python finds it by itself.

host=$(hostname 2>/dev/null || uname -n)
where="on node $host"
remedy="name one that nodes see, or activate it in worker_init"

fatal() {
    echo "fxhpc: fatal: $*" >&2
    exit 78
}

# --- in a container -----------------------------------------------------------------------------
# What the node has in its environment is in a file; see container.sh, which has written it.
if [ -n "$inside" ]; then
    where="in $inside on node $host"
    remedy="name one that is there"
    [ -r "$blocks/$1.env" ] || fatal "user $(id -u) $where cannot read" \
        "$blocks/$1.env: the container must see $blocks, as the user who has started it"
    . "$blocks/$1.env"
    rm -f "$blocks/$1.env"
    unset FXHPC_PYTHON_BEFORE
    export FXHPC_TIE="$blocks/$1" FXHPC_CONTAINER="$inside"
fi

# --- which Python -----------------------------------------------------------------------------
# A named one; else the one that worker_init has put on the path; else the endpoint's own.
found=$(command -v python3 2>/dev/null)
if [ -n "$named_python" ]; then
    python=$(command -v "$named_python" 2>/dev/null)
    [ -n "$python" ] || fatal "there is no $named_python $where, which the endpoint's" \
        "configuration names as \`python\`; $remedy"
    why="the configuration names it as \`python\`"
elif [ -n "$inside" ]; then
    python=$found
    [ -n "$python" ] || fatal "there is no python3 on the path $where: use an" \
        "image that has one with fxhpc, or name it: python: /path/in/the/image"
    why="it is on the path in $inside"
elif [ -n "${FXHPC_PYTHON_BEFORE+set}" ] && [ -n "$found" ] &&
    [ "$found" != "$FXHPC_PYTHON_BEFORE" ]; then
    python=$found
    why="worker_init has put it on the path"
elif [ -x "$own_python" ]; then
    python=$own_python
    why="the endpoint runs on it"
elif [ -n "$found" ]; then
    python=$found
    why="it is on the path, and the endpoint's own, $own_python, is not on this node"
else
    fatal "there is no Python on node $host: neither the endpoint's own, $own_python, nor a" \
        "python3 on the path; install fxhpc where nodes see it, activate it in worker_init, or" \
        "name it: python: /path/to/python"
fi
[ "$python" = "$own_python" ] && [ -n "$own_path" ] &&
    export PYTHONPATH="$own_path${PYTHONPATH:+:$PYTHONPATH}"

# --- for whoever calls srun in a task -----------------------------------------------------------
# What describes this step would be taken for options of the next: it would wait for CPUs that
# this step holds, or be laid out as this one is.
for name in $(env | sed -n \
    -e 's/^\(SLURM_STEP[A-Z_]*\)=.*/\1/p' -e 's/^\(SLURM_LAUNCH[A-Z_]*\)=.*/\1/p' \
    -e 's/^\(SLURM_SRUN[A-Z_]*\)=.*/\1/p' -e 's/^\(SLURM_[CMG][A-Z]*_BIND[A-Z_]*\)=.*/\1/p' \
    -e 's/^\(PMI[X2]*_[A-Z_]*\)=.*/\1/p'); do
    unset "$name"
done
unset SLURM_NTASKS SLURM_NPROCS SLURM_NNODES SLURM_NTASKS_PER_NODE SLURM_TASKS_PER_NODE \
    SLURM_CPUS_PER_TASK SRUN_CPUS_PER_TASK SLURM_DISTRIBUTION SLURM_LABELIO SLURM_PROCID \
    SLURM_LOCALID SLURM_GTIDS SLURM_TASK_PID SLURM_UMASK SLURM_EXACT SLURM_WHOLE \
    SLURM_EXCLUSIVE
[ -n "$SLURM_JOB_ID" ] && export SLURM_OVERLAP=1

# --- become a manager ---------------------------------------------------------------------------
unset FXHPC_PYTHON_BEFORE FXHPC_INSIDE FXHPC_LAUNCH SBATCH_NO_REQUEUE
export FXHPC_PYTHON_WHY="$why" FXHPC_OWN_PYTHON="$own_python ($own_version)"
export FXHPC_OWN_VERSION="$own_fxhpc"
# `fxhpc endpoint check --on-node` asks what a manager would find here.
[ -n "${FXHPC_PROBE-}" ] && exec "$python" "$FXHPC_PROBE"
# One start of Python in all. It is written so that an old one, a Python 2 too, can say that it is.
start='
import os, sys
sys.path[:] = [p for p in sys.path if p]
why = os.environ.pop("FXHPC_PYTHON_WHY", "")
own = os.environ.pop("FXHPC_OWN_PYTHON", "")
inside = os.environ.pop("FXHPC_CONTAINER", "")
fxhpc = os.environ.pop("FXHPC_OWN_VERSION", "")
here = "%s on node %s, Python %d.%d.%d" % ((sys.executable, os.uname()[1]) + sys.version_info[:3])
def fatal(what, remedy):
    sys.stderr.write("fxhpc: fatal: %s (%s) %s; the endpoint runs %s. %s\n"
                     % (here, why, what, own, remedy))
    sys.stderr.flush()
    os._exit(78)
other = ("activate in worker_init an environment that has fxhpc, or name its interpreter in the "
         "configuration: python: /path/to/python")
if inside:
    here += " in " + inside
    other = "use an image that has it, or name its interpreter there: python: /path/in/the/image"
if sys.version_info < (3, 10):
    fatal("is too old: fxhpc needs Python 3.10 or newer", other[0].upper() + other[1:])
try:
    from fxhpc.manager.__main__ import main
except ImportError as error:
    lacks = getattr(error, "name", None) or str(error)
    if lacks.split(".")[0] != "fxhpc":
        lacks = "%s, which fxhpc needs (%s)" % (lacks, error)
    fatal("has no %s" % lacks, "Install it there: %s -m pip install fxhpc==%s; or %s"
          % (sys.executable, fxhpc, other))
sys.exit(main())
'
# `fxhpc manager start` may want other managers than blocks have.
spec=${FXHPC_MANAGER_SPEC:-$spec}
unset FXHPC_MANAGER_SPEC
exec "$python" -c "$start" "$spec"
