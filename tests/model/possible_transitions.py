"""Which transitions there are: from which state, to which, and by which events.

By the code of the cores, as far as the simulation has what it takes: nothing is purged there, no
store is damaged, no block ends by its provider, and all streams are stored. An event is named by
its message where it brings one; `refused` is an answer of the store that brings an error. Where an
event has a long way through the core, what counts is where it ends: `parked -> sent` was queued in
between.
"""

from __future__ import annotations

#: (before, after): events.
Table = dict[tuple[str, str], tuple[str, ...]]

#: Before it is known, and when it is forgotten.
NOT_THERE = "not there"

#: What ends a stream with its client.
_FORGOTTEN = ("ClientGone", "LocalClosed")

#: A task, at the forwarder.
TASKS: Table = {
    # It is submitted; or found in the store after a restart.
    (NOT_THERE, "queued"): ("Stored", "recover"),
    (NOT_THERE, "sent"): ("Stored", "recover"),
    (NOT_THERE, "storing"): ("Stored",),  # cancelled before it was stored
    (NOT_THERE, "ended"): ("recover",),
    (NOT_THERE, "delivered"): ("recover",),  # its rows were dropped
    # It is sent where there is room.
    ("queued", "sent"): (
        "CancelTasks",  # it counts as sent until it is known who of before has it
        "EndOfTurn",
        "Fetch",  # adopted with others, of which some had waited
        "Present",  # its interchange has it, from before
        "Resume",
        "Stored",
        "Tick",
        "Window",
    ),
    ("sent", "running"): ("Started",),
    # It is not there any more, or not for sure.
    ("sent", "queued"): (
        "Fetch",
        "LocalClosed",
        "Present",
        "Resume",
        "Started",  # it was cancelled, and only asked about; it is sent now
        "Stored",
        "Stored refused",
        "Tick",  # likewise, and nobody has answered
    ),
    ("running", "sent"): ("Loaded", "Lost", "Present"),
    ("running", "queued"): ("LocalClosed", "Present", "Stored"),
    # Its `local` is gone; somebody asks for it, or has another.
    ("queued", "parked"): ("Fetch", "LocalClosed"),
    ("sent", "parked"): ("Fetch", "LocalClosed"),
    ("running", "parked"): ("LocalClosed",),
    ("parked", "queued"): ("Fetch", "LocalClosed", "Resume"),
    ("parked", "sent"): ("Fetch", "Resume"),
    # It ends.
    ("queued", "storing"): ("CancelTasks", "Results"),
    ("sent", "storing"): (
        "CancelTasks",
        "Fetch",  # `retries=0`, and its `local` is gone
        "InterchangeGone",  # cancelled, and nobody to ask
        "LocalClosed",
        "Present",  # cancelled, and not there
        "Results",
        "Resume",
        "Tick",  # cancelled, and nobody has come back who could be asked
    ),
    ("running", "storing"): (
        "CancelTasks",
        "InterchangeGone",
        "LocalClosed",
        "Present",
        "Results",
    ),
    ("parked", "storing"): ("CancelTasks",),
    ("storing", "ended"): ("Stored",),
    ("ended", "delivered"): ("Delivered",),
    # Its stream is forgotten.
    ("queued", NOT_THERE): _FORGOTTEN,
    ("sent", NOT_THERE): _FORGOTTEN,
    ("running", NOT_THERE): _FORGOTTEN,
    ("storing", NOT_THERE): _FORGOTTEN,
    ("ended", NOT_THERE): _FORGOTTEN,
    ("delivered", NOT_THERE): _FORGOTTEN,
}

#: Its process ended; it is silent; it has left.
_GONE = ("ManagerGone", "Tick", "Bye")

#: What makes tasks wait that others had: they are lost, given back, or turn out to be nowhere.
_FREED = ("Bye", "Lost", "ManagerGone", "Register", "Results", "Returned", "Tick")

#: A manager, at its interchange. `telling`: it has results that it could not tell before;
#: `suspect`, `alone`: it has a task that may have ended another manager, among others or alone;
#: `kept free`: it gets nothing until it can have one alone.
MANAGERS: Table = {
    (NOT_THERE, "awaited"): ("Recovered",),
    (NOT_THERE, "idle"): ("Register",),
    (NOT_THERE, "busy"): ("Register",),
    (NOT_THERE, "telling"): ("Register",),
    ("awaited", "idle"): ("Register",),
    ("awaited", "busy"): ("Register",),
    ("awaited", "telling"): ("Register",),
    ("awaited", NOT_THERE): ("Tick",),
    # It greets once more.
    **{
        (state, "telling"): ("Register",)
        for state in ("idle", "busy", "suspect", "alone", "kept free")
    },
    ("telling", "idle"): ("Results",),
    ("telling", "busy"): ("Results",),
    ("telling", "suspect"): ("Results",),
    ("telling", "alone"): ("Results",),
    ("telling", "kept free"): ("Results",),
    # It is sent tasks.
    ("idle", "busy"): ("Capacity", "Tasks", *_FREED),
    ("idle", "suspect"): ("Capacity", "Bye", "Lost", "ManagerGone", "Returned", "Tick"),
    ("idle", "alone"): ("Capacity", *_FREED),
    ("busy", "suspect"): ("Capacity", "Lost", "ManagerGone", "Results", "Returned", "Tick"),
    ("busy", "alone"): ("Lost", "Results", "Returned"),
    ("busy", "kept free"): ("ManagerGone", "Results", "Tick"),
    ("suspect", "kept free"): ("Lost", "ManagerGone", "Results", "Returned", "Tick"),
    ("kept free", "alone"): ("Lost", "Results", "Returned"),
    ("kept free", "suspect"): ("Cancel", "Capacity", "ManagerGone", "Results", "Tick"),
    ("kept free", "busy"): ("ManagerGone", "Results", "Tick"),
    ("kept free", "idle"): ("Lost", "Results", "Returned"),
    # They end there.
    ("busy", "idle"): ("Cancel", "Lost", "Register", "Results", "Returned"),
    ("suspect", "idle"): ("Cancel", "Lost", "Results", "Returned"),
    ("suspect", "busy"): ("Cancel", "Lost", "Results", "Returned"),
    ("suspect", "alone"): ("Lost", "Results", "Returned"),
    ("alone", "idle"): ("Cancel", "Lost", "Register", "Results", "Returned"),
    ("alone", "busy"): ("Lost", "Results", "Returned"),
    ("alone", "suspect"): ("Cancel", "Lost", "Results", "Returned"),
    # Its job is about to be over.
    **{
        (state, "draining"): ("Tick",)
        for state in ("idle", "busy", "suspect", "alone", "kept free", "telling")
    },
    **{
        (state, NOT_THERE): _GONE
        for state in ("idle", "busy", "suspect", "alone", "kept free", "telling", "draining")
    },
}

#: What is taken back from a worker at once, and surely a moment later.
_TAKEN_BACK = ("Cancel", "Drain", "DrainAsked", "Turn", "Welcome")

#: A worker, at its manager. `given`: it has tasks, and none is known to have begun; `skipping`: it
#: was told not to begin some of them; `killed`: by its manager, for the task that it runs.
SLOTS: Table = {
    (NOT_THERE, "starting"): ("start", "WorkerGone", "Turn"),
    ("starting", "idle"): ("WorkerSaid",),
    ("starting", NOT_THERE): ("WorkerGone",),
    ("idle", "given"): ("Turn",),
    ("given", "running"): ("Looked",),
    ("given", "idle"): ("Ended", "WorkerSaid"),
    ("given", "skipping"): _TAKEN_BACK,
    ("running", "given"): ("WorkerSaid",),
    ("running", "idle"): ("WorkerSaid",),
    ("running", "skipping"): ("Cancel", "Drain", "DrainAsked", "Looked", "Turn", "Welcome"),
    ("running", "killed"): ("Cancel", "Looked", "Welcome"),
    ("skipping", "idle"): ("Looked", "WorkerSaid"),
    ("skipping", "killed"): ("Cancel", "Looked", "Welcome"),
    ("killed", NOT_THERE): ("Turn", "WorkerGone"),
    ("idle", NOT_THERE): ("WorkerGone",),
    ("given", NOT_THERE): ("WorkerGone",),
    ("running", NOT_THERE): ("WorkerGone",),
    ("skipping", NOT_THERE): ("WorkerGone",),
}
