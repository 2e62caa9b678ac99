"""What may be said on a link, how a task can end, when it is tried again. No I/O.

`messages` is forwarder, interchange and manager; `service` is client and forwarder; `pool` is
manager, seed and worker. `link` notices what a transport loses, `codec` makes frames of it all.
"""
