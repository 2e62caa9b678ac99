"""What scientists import: FuncXClient, Batch, Executor, futures, search results.

`client` submits tasks (by `submissions`) and asks what becomes of them (`asking`, by `results` and
`tasks`); `session` is its own life. `executor` numbers them by `submitter`, sends them from an
`outbox`, and has what they end with pushed into futures. Both speak over a `connection`, to a
forwarder in a process of its own (`home`) or in this one (`embedded`); `attachments` is what
several of them share; `local` is this process's own endpoint; `processes` is what becomes of it
all when the process forks or ends.
"""
