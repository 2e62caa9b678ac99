"""The statements of funcX's tutorial: they run as they stand, and the example says each of them.

Two things alone differ: the name of the package in the first import, and a `try` around the call
that is meant to fail.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from keeper import run_kept

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "tutorial.py"

BEGIN = """
from fxhpc import FuncXClient

fxc = FuncXClient()

def hello_world():
    return "Hello World!"

func_uuid = fxc.register_function(hello_world)
print(func_uuid)

tutorial_endpoint = '4b116d3c-1703-4f8f-9f6f-39921e5864df'
res = fxc.run(endpoint_id=tutorial_endpoint, function_id=func_uuid)
print(res)

fxc.get_result(res)

def funcx_sum(items):
    return sum(items)

sum_function = fxc.register_function(funcx_sum)

items = [1, 2, 3, 4, 5]

res = fxc.run(items, endpoint_id=tutorial_endpoint, function_id=sum_function)

print (fxc.get_result(res))

def funcx_date():
    from datetime import date
    return date.today()

date_function = fxc.register_function(funcx_date)

res = fxc.run(endpoint_id=tutorial_endpoint, function_id=date_function)

print (fxc.get_result(res))

def funcx_echo(name):
    import os
    return os.popen("echo Hello %s" % name).read()

echo_function = fxc.register_function(funcx_echo)

res = fxc.run("World", endpoint_id=tutorial_endpoint, function_id=echo_function)

print (fxc.get_result(res))

def failing():
    raise Exception("deterministic failure")

failing_function = fxc.register_function(failing)

res = fxc.run(endpoint_id=tutorial_endpoint, function_id=failing_function)
"""

FAILS = """
fxc.get_result(res)
"""

REST = """
import time

def pi(num_points):
    from random import random
    inside = 0
    for i in range(num_points):
        x, y = random(), random()
        if x**2 + y**2 < 1:
            inside += 1
    return (inside*4 / num_points)

pi_function = fxc.register_function(pi)

estimates = []
for i in range(3):
    estimates.append(fxc.run(10**5, endpoint_id=tutorial_endpoint, function_id=pi_function))

time.sleep(5)

for e in estimates:
    while fxc.get_task(e)['pending'] == 'True':
        time.sleep(3)

results = [fxc.get_result(i) for i in estimates]
total = 0
for r in results:
    total += r

print("Estimates: %s" % results)
print("Average: {:.5f}".format(total/len(results)))

def hello_world():
    return "Hello World!"

func_uuid = fxc.register_function(hello_world, description="hello world function", public=True, searchable=True)
print(func_uuid)

search_results = fxc.search_function("hello", offset=0, limit=5)
print(search_results)

endpoint_status = fxc.get_endpoint_status(tutorial_endpoint)

print("Status: %s" % endpoint_status['status'])
print("Workers: %s" % endpoint_status['logs'][0]['total_workers'])
print("Tasks: %s" % endpoint_status['logs'][0]['outstanding_tasks'])

def squared(x):
    return x**2

squared_function = fxc.register_function(squared)

inputs = list(range(10))
batch = fxc.create_batch()

for x in inputs:
    batch.add(x, endpoint_id=tutorial_endpoint, function_id=squared_function)

batch_res = fxc.batch_run(batch)

fxc.get_batch_result(batch_res)
"""  # noqa: E501 - as long as the tutorial has it

AROUND = """
try:
    fxc.get_result(res)
except Exception as error:
    assert type(error) is Exception and str(error) == "deterministic failure", error
    assert "in failing" in str(error.__cause__), error.__cause__
else:
    raise SystemExit("get_result of a task that failed returned")
"""

#: What only a test asks: that the last statement's value has every task, and the right values.
ASK = """
fxc.wait(batch_res)
ended = fxc.get_batch_result(batch_res)
assert [ended[task_id]["result"] for task_id in batch_res] == [x**2 for x in inputs], ended
assert not any(ended[task_id]["pending"] for task_id in batch_res)
"""


def check_output(text: str) -> None:
    uuid = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    for line in (
        uuid,
        "15",
        r"\d{4}-\d\d-\d\d",
        "Hello World",
        r"Average: 3\.1\d{4}",
        rf"\| {uuid} \| hello_world +\| hello world function \| .* \| 0 +\|",
        "Status: online",
        r"Workers: \d+",
        r"Tasks: \d+",
    ):
        assert re.search(rf"^{line}$", text, re.MULTILINE), f"{line}\n{text}"


def test_the_tutorial_runs_as_a_script(tmp_path: Path) -> None:
    script = tmp_path / "tutorial.py"
    script.write_text(BEGIN + AROUND + REST + ASK)
    ended = run_kept([sys.executable, str(script)], tmp_path / "home", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    check_output(ended.stdout)


def test_the_tutorial_runs_as_it_is_pasted(tmp_path: Path) -> None:
    # As in a notebook: each statement for itself, an error ends that statement alone, and the
    # value of an expression is shown.
    pasted = tmp_path / "pasted.py"
    pasted.write_text(
        "import ast, code, linecache, pathlib\n"
        "console = code.InteractiveConsole()\n"
        "for n, node in enumerate(ast.parse(pathlib.Path('text.py').read_text()).body):\n"
        "    source = ast.unparse(node) + '\\n'\n"
        "    name = f'<cell {n}>'\n"
        "    linecache.cache[name] = (len(source), None, source.splitlines(True), name)\n"
        "    console.runcode(compile(source, name, 'single'))\n"
    )
    (tmp_path / "text.py").write_text(BEGIN + FAILS + REST)
    ended = run_kept([sys.executable, str(pasted)], tmp_path / "home", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    check_output(ended.stdout)
    assert "'Hello World!'" in ended.stdout
    assert "Exception: deterministic failure" in ended.stderr
    assert ended.stderr.count("The above exception was the direct cause") == 1, ended.stderr


@pytest.mark.parametrize("part", [BEGIN, FAILS, REST], ids=["begin", "fails", "rest"])
def test_the_example_says_every_statement_in_order(part: str) -> None:
    said = iter(list(statements(ast.parse(EXAMPLE.read_text()))))
    for wanted in statements(ast.parse(part)):
        assert any(wanted in (found, bare(found)) for found in said), wanted


def statements(tree: ast.Module) -> list[str]:
    """The statements of a module, those of a `try` among them, each in one spelling."""
    found = []
    for node in tree.body:
        inner = node.body if isinstance(node, ast.Try) else [node]
        found += [ast.unparse(one) for one in inner]
    return found


def bare(statement: str) -> str:
    """A call without the `print` around it or the name that it is given."""
    for pattern in (r"print\((.*)\)", r"batch_results = (.*)"):
        match = re.fullmatch(pattern, statement)
        if match:
            return match[1]
    return statement
