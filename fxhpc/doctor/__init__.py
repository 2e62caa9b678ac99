"""What may keep fxhpc from working on a host, found without starting or changing anything.

Each module looks at one topic and yields findings. `apart` has each of them do so in a process of
its own, so that a file system which hangs holds up nobody.
"""
