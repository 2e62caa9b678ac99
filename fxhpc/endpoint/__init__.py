"""Named endpoints: their `configuration`, their life on a host, the `provisioner` of nodes.

`lifecycle` starts and stops one; `supervisor` keeps its interchange running, `specs` says what its
configuration makes of each process. `launch` is what a block runs on its nodes; `check` and
`on_node` find what would keep it from working.
"""
