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
nobody has acknowledged, `leaving` how it ends. `shell` owns clock, link and loop, `finding` knows
where the interchange is, `crew` has the workers' sockets, pages and `output` (`sharing`). The
seed (`seeds`) has no threads, so it can fork at any time; it alone imports `fxhpc.worker`.

`resources` says what there is for workers: how many (`node`), and for each its cores (`pinning`),
its devices (`accelerators`) and its variables; and how much of it they use. Tasks that need
something else wait in lines (`sized`), lease it (`leasing`), and run in a worker that is made for
them (`hiring`). `unsent` leaves results in a file that nobody is known to have stored.
"""
