"""Sockets with house options, keys, allow-lists, and what a poll loop is made of.

Nothing here decides anything: a shell owns its sockets, its clock and its loop, and asks a core
what to do. `sockets` says what every socket does; `unix_sockets` are those within a host, in the
private directories that `ipc` guards; `tcp_sockets` those between hosts, from which `keys` and
`authenticator` keep strangers off, and whose connections `monitor` watches. `poller` waits for all
of them; `waker` wakes a loop from another thread.
"""
