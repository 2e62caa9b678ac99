"""Benchmarks of fxhpc, and of its peers beside it: `python -m benchmarks --help`.

systems/         what is measured, all through one interface
rows/            what is measured of it: a file for each row
work.py          what the tasks do
apart.py         a fresh process, with a fresh home, for each measurement
processes.py     processor time, memory and wake-ups of a process and all below it
environments.py  peers whose requirements conflict get virtual environments of their own
report.py        tables in Markdown
floors.py        the figures that are to be reached
chaos.py, startup.py, simulation.py, ...  apart: each by `python -m benchmarks.NAME`
"""
