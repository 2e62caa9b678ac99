"""Commands of the shell as functions: their keywords, their output, what failed and what hung."""

from fxhpc import Executor, ShellFunction

# A template, as str.format has it; braces of the shell's own are written twice.
primes = ShellFunction("seq {first} {last} | factor | awk 'NF == 2 {{print $2}}'", name="primes")
failing = ShellFunction("echo 'no such mesh: {mesh}' >&2; exit 3")
hanging = ShellFunction("echo 'step 1'; (setsid sleep 3600 &); sleep 3600", walltime=1)


def main() -> None:
    with Executor(max_workers=2) as executor:
        result = executor.submit(primes, first=10, last=30).result()
        print(f"exit code {result.returncode}: {result.stdout.split()}")

        # Many of them: a dictionary of keywords for each.
        ranges = [{"first": n, "last": n + 99} for n in range(2, 1000, 100)]
        counts = [result.stdout.count("\n") for result in executor.map(primes, ranges)]
        print(f"{sum(counts)} primes below 1,002")

        # A failure is a result.
        print(repr(executor.submit(failing, mesh="wing").result()))

        # All that it has started has ended when its walltime is over.
        print(executor.submit(hanging).result())


if __name__ == "__main__":
    main()
