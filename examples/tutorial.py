"""The funcX tutorial, statement by statement, without a cloud: only the import line is another.

Run it as it is: no account, no network, no configuration. The endpoint with the tutorial's well
known UUID is `local`, the processors of this machine; it starts by itself and ends with the script.
"""

from fxhpc import FuncXClient

fxc = FuncXClient()


# --- Register a function, run it, read its result -------------------------------------------------


def hello_world():
    return "Hello World!"


func_uuid = fxc.register_function(hello_world)
print(func_uuid)

tutorial_endpoint = "4b116d3c-1703-4f8f-9f6f-39921e5864df"  # means `local`
res = fxc.run(endpoint_id=tutorial_endpoint, function_id=func_uuid)
print(res)

# The task was sent a moment ago: get_result gives it up to five seconds before it says "pending".
print(fxc.get_result(res))


# --- Arguments ------------------------------------------------------------------------------------


def funcx_sum(items):
    return sum(items)


sum_function = fxc.register_function(funcx_sum)

items = [1, 2, 3, 4, 5]

res = fxc.run(items, endpoint_id=tutorial_endpoint, function_id=sum_function)

print(fxc.get_result(res))


# --- Imports within the function, as funcX asked for; those of the script would do too ------------


def funcx_date():
    from datetime import date

    return date.today()


date_function = fxc.register_function(funcx_date)

res = fxc.run(endpoint_id=tutorial_endpoint, function_id=date_function)

print(fxc.get_result(res))


# --- Programs that are installed where the task runs ----------------------------------------------


def funcx_echo(name):
    import os

    return os.popen("echo Hello %s" % name).read()


echo_function = fxc.register_function(funcx_echo)

res = fxc.run("World", endpoint_id=tutorial_endpoint, function_id=echo_function)

print(fxc.get_result(res))


# --- A function that fails: its own exception comes back, with the remote traceback as its cause --


def failing():
    raise Exception("deterministic failure")


failing_function = fxc.register_function(failing)

res = fxc.run(endpoint_id=tutorial_endpoint, function_id=failing_function)

try:
    fxc.get_result(res)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
    print(f"caused by {error.__cause__}")


# --- Many runs of one function: three estimates of pi ---------------------------------------------

import time


# The share of random points of a square that lie within its circle.
def pi(num_points):
    from random import random

    inside = 0
    for i in range(num_points):
        x, y = random(), random()
        if x**2 + y**2 < 1:
            inside += 1
    return inside * 4 / num_points


pi_function = fxc.register_function(pi)

estimates = []
for i in range(3):
    estimates.append(fxc.run(10**5, endpoint_id=tutorial_endpoint, function_id=pi_function))

# Here the tutorial waits. `fxc.wait(estimates)` would return as soon as all three have ended.
time.sleep(5)

for e in estimates:
    while fxc.get_task(e)["pending"] == "True":
        time.sleep(3)

results = [fxc.get_result(i) for i in estimates]
total = 0
for r in results:
    total += r

print("Estimates: %s" % results)
print("Average: {:.5f}".format(total / len(results)))


# --- Functions with a description, for others to find ---------------------------------------------


def hello_world():
    return "Hello World!"


func_uuid = fxc.register_function(
    hello_world, description="hello world function", public=True, searchable=True
)
print(func_uuid)

search_results = fxc.search_function("hello", offset=0, limit=5)
print(search_results)
print(search_results[0]["function_name"])


# --- The endpoint ---------------------------------------------------------------------------------

endpoint_status = fxc.get_endpoint_status(tutorial_endpoint)

print("Status: %s" % endpoint_status["status"])
print("Workers: %s" % endpoint_status["logs"][0]["total_workers"])
print("Tasks: %s" % endpoint_status["logs"][0]["outstanding_tasks"])


# --- A batch: ten tasks in one call ---------------------------------------------------------------


def squared(x):
    return x**2


squared_function = fxc.register_function(squared)

inputs = list(range(10))
batch = fxc.create_batch()

for x in inputs:
    batch.add(x, endpoint_id=tutorial_endpoint, function_id=squared_function)

batch_res = fxc.batch_run(batch)

batch_results = fxc.get_batch_result(batch_res)

# What is still pending then has no result yet: get_result waits for it.
print([fxc.get_result(task_id) for task_id in batch_results])
