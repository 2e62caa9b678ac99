"""What an administrator has set for all users of a host, in `/etc/fxhpc/site.yaml`.

`reading` reads and checks that file, `rules` says what follows from it. No variable and no option
names another file: users cannot get around it so.
"""

from __future__ import annotations

import os

#: Where it is, on every host of a site.
SITE_FILE = "/etc/fxhpc/site.yaml"


def is_there(path: str = SITE_FILE) -> bool:
    """Whether there is a site file. One that this user may not look for limits all the same."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return os.path.islink(path)  # to what cannot be seen: `reading` refuses it
    except OSError:
        pass
    return True
