"""What scientists import: FuncXClient, Batch, Executor, futures, search results.

`client` submits tasks and reads them back, `executor` (by `submitter`) has them pushed into
futures. Both speak over a `connection`, to a forwarder in a process of its own (`home`) or in
this one (`embedded`); `attachments` is what several of them share; `local` is this process's own
endpoint; `processes` is what becomes of it all when the process forks or ends.
"""
