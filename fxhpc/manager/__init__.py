"""One node's workers: they are started, fed, watched and ended here.

::

    interchange            manager                                 seed           workers
        |   Tasks    +---------------+  Fork    socket pair     +--------+  fork  +--------+
        +----------->| core  (shell) |------------------------->| forks, |------->| worker |
        |<-----------|   backlog     |<-------------------------| reaps  |        +--------+
            Results  |   staff       |  Exited                  +--------+            ^
                     |   outbox      |     a socket pair and a page for each worker   |
                     +---------------+<---------------------------------------------->+

`core` takes events and returns actions: `backlog` is what no worker has yet, `staff` what the
workers have, `pace` how much they should have, `losses` what is said of a dead one, `outbox` what
nobody has acknowledged. `shell` owns clock, link and loop; `crew` the workers' sockets, pages and
output. The `seed` has no threads, so it can fork at any time; it alone imports `fxhpc.worker`.
"""
