"""One endpoint's queue and its managers: who gets which task, and what becomes of lost ones.

The way of a task through it, and of its outcome back::

    forwarder                                                          managers (one per node)
      |  Tasks      +---------+    +-------------+          Tasks         ^
      +------------>| queue   |--->| dispatching |------------------------+
      |             +---------+    +-------------+                        |
      |                  ^  again  +-------------+          Lost          |
      |                  +---------| losses      |<-----------------------+
      |  Results    +---------+    +-------------+          Results       |
      |<------------| outbox  |<---| ending      |<-----------------------+
                    +---------+    +-------------+

`core` takes events and returns actions; `state` is what its parts share. `registering` is a
manager's greeting, `recovering` what is known after a restart, from the `journal`. While the
forwarder is away, outcomes lie in the `spool`. `blocks` has the nodes that are asked for,
`placement` the tasks that have needs of their own. `process` is the interchange of a named
endpoint; that of a `local` endpoint lives with its forwarder.
"""
