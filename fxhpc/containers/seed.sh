# Runs in a container that functions have chosen: picks the image's Python, and becomes a seed in it.
# What stands above this line in the installed copy: which container, where its manager listens.

host=$(hostname 2>/dev/null || uname -n)
where="in $inside on node $host"

fatal() {
    echo "fxhpc: fatal: $*" >&2
    exit 78
}

# What the node has in its environment is in a file; see container.sh, which has written it.
[ -r "$blocks/$1.env" ] || fatal "user $(id -u) $where cannot read $blocks/$1.env:" \
    "the container must see $blocks, as the user who has started it"
. "$blocks/$1.env"
rm -f "$blocks/$1.env"
python=$(command -v python3 2>/dev/null)
[ -n "$python" ] || fatal "there is no python3 on the path $where: use an image that has one with" \
    "fxhpc $own_fxhpc"
# It is written so that an old one, a Python 2 too, can say that it is.
start='
import os, sys
sys.path[:] = [p for p in sys.path if p]
where, own, path = sys.argv[1:]
here = "%s, Python %d.%d.%d, %s" % ((sys.executable,) + sys.version_info[:3] + (where,))
def fatal(what):
    sys.stderr.write("fxhpc: fatal: %s %s\n" % (here, what))
    sys.stderr.flush()
    os._exit(78)
if sys.version_info < (3, 10):
    fatal("is too old: fxhpc needs Python 3.10 or newer. Use an image that has it")
use = "Use an image that has fxhpc %s: %s -m pip install fxhpc==%s" % (own, sys.executable, own)
try:
    from fxhpc.version import __version__
    if __version__ != own:
        fatal("has fxhpc %s, and the manager outside %s. %s" % (__version__, own, use))
    from fxhpc.manager.seeds.seed_inside import main
except ImportError as error:
    fatal("has no %s. %s" % (getattr(error, "name", None) or error, use))
main(path)
'
exec "$python" -c "$start" "$where" "$own_fxhpc" "$blocks/seed.sock"
