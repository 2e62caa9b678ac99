"""The service part of funcX in miniature: registry, durable store, queues, delivery.

The way of a task through it, and of its outcome back::

    client                                                             interchange
      |  Submit     +------------+   +--------+   +---------+   Tasks       ^
      +------------>| submitting |-->| store  |-->| sending |---------------+
      |             +------------+   +--------+   +---------+               |
      |  States,    +------------+   +--------+   +-----------+  Results    |
      |<------------| answering  |<--| store  |<--| gathering |<------------+
         Push       +------------+   +--------+   +-----------+

`core` takes events and returns actions; `state` is what its parts share. `loop` carries the actions
out, with `store.writer` (a thread that owns the `store`), `clients` or threads of this process
(`embedded`), `locals` (interchanges of `local` endpoints, which live here) and `remotes` (those of
named endpoints). `process` is a home's forwarder; `attach` finds it or starts it.
"""
