"""A disk on which each synchronisation takes a while: a library loaded before all others."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* One byte for each call goes to the file that SYNCS names; SYNC_MS is what each call takes. */
static int slowly(const char *name, int descriptor) {
    int (*real)(int) = (int (*)(int)) dlsym(RTLD_NEXT, name);
    const char *text = getenv("SYNC_MS"), *path = getenv("SYNCS");
    long ms = text ? atol(text) : 0;
    struct timespec wait = {ms / 1000, (ms % 1000) * 1000000L};
    if (ms > 0) nanosleep(&wait, NULL);
    if (path) {
        int count = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (count >= 0) { if (write(count, "s", 1) < 0) {} close(count); }
    }
    return real(descriptor);
}

int fsync(int descriptor) { return slowly("fsync", descriptor); }
int fdatasync(int descriptor) { return slowly("fdatasync", descriptor); }
"""


def slow_disk(directory: Path, ms: int) -> tuple[dict[str, str], Path]:
    """What to add to a process's environment, and the file with a byte for each synchronisation.

    Args:
        directory: where the library is built, by gcc.
        ms: milliseconds that a synchronisation takes longer.
    """
    source, library, syncs = (directory / name for name in ("slow.c", "slow.so", "syncs"))
    source.write_text(_SOURCE)
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True
    )
    return {"LD_PRELOAD": str(library), "SYNC_MS": str(ms), "SYNCS": str(syncs)}, syncs
