"""The process that runs tasks: unpack, call, pack.

::

    manager --- Tasks --->  loop  -->  run: load function and arguments, call, pack the outcome
            <-- Outcomes --       <--

`loop` reads messages from its socket (`channel`), notes in a page that it shares with its manager
which task it is on, and sends outcomes. `run` makes an outcome of every way in which a call can
end. `state` puts back what a task may have changed for the next one.
"""
