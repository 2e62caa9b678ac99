"""What scientists import: FuncXClient, Batch, Executor, futures, search results.

`client` submits tasks (by `submissions`) and asks what becomes of them (`asking`, by `results` and
`tasks`). `executor` has what its tasks end with pushed into futures. What both need has rooms:

* `declared`: what users say of tasks beside their arguments.
* `sending`: functions and arguments packed, numbered (`submitter`), gathered in an `outbox`.
* `connection`: to a forwarder in a process of its own (`home`), in this one (`embedded`), or on
  another host; `session` is a client's hold on one, `attachments` what several clients share.
* `futures`: and what is called when they end.
* `started`: this process's own endpoint (`local`), and what becomes of it all when the process
  forks or ends (`processes`).
* `shown`: progress, tables, lists, states.
"""
