"""ZeroMQ sockets with house options, keys, allow-lists, and what a poll loop is made of.

Nothing here decides anything: a shell owns its sockets, its clock and its loop, and asks a core
what to do. `sockets` opens, binds, sends and receives; `ipc` guards the private directories that
ipc sockets lie in; `keys` and `authenticator` keep strangers off tcp; `monitor` tells which
connections ended or were refused; `waker` wakes a loop from another thread.
"""
