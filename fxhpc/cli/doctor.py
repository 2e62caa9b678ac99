"""The command `fxhpc doctor`: what may keep fxhpc from working here, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict

import click

from fxhpc.cli import output


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Show also what is in order.")
@output.common_options
def doctor(everything: bool) -> int:
    """Look at this host and your home: exit code 0 if all is in order or minor, 1 if not.

    Ports, limits, file systems, room, clocks, versions, keys, leftovers, the batch system and what
    the administrators have set. It starts nothing and changes nothing, and takes a few seconds even
    if a file system hangs.
    """
    from fxhpc.doctor.examination import examine
    from fxhpc.endpoint.check import OK, PROBLEM, WARNING

    found = examine(output.home())
    problems = sum(finding.level == PROBLEM for finding in found)
    warnings = sum(finding.level == WARNING for finding in found)
    if output.wants_json():
        output.document(
            {
                "home": output.home().path,
                "problems": problems,
                "warnings": warnings,
                "findings": [asdict(finding) for finding in found],
            }
        )
        return output.FAILED if problems else output.OK
    shown = [f for f in found if everything or f.level != OK or f.what.startswith("site")]
    if shown:
        output.table(
            ["", "What", "Found"],
            [(f.level, f.what, f.text + (f"; {f.hint}" if f.hint else "")) for f in shown],
        )
    looked = f"{len(found)} things were looked at"
    if not problems and not warnings:
        click.echo(f"{looked}, all is in order" + ("" if everything else "; --all shows them"))
    else:
        click.echo(f"{looked}: {_many(problems, 'problem')}, {_many(warnings, 'warning')}")
    return output.FAILED if problems else output.OK


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
