/* Libraries that mind what process they are in: threads of OpenMP, and a device with an owner. */
#include <sys/types.h>
#include <unistd.h>

/* How many threads have been in a parallel region. */
int threads(void)
{
    int count = 0;
#pragma omp parallel reduction(+ : count)
    count += 1;
    return count;
}

static pid_t owner;

/* As a driver does that cannot be used in a forked child. Returns 0, or -1 if it is open. */
int open_device(void)
{
    if (owner)
        return -1;
    owner = getpid();
    return 0;
}

/* Returns the process that has opened it; -1 if that is not this one. */
int use_device(void)
{
    return owner == getpid() ? owner : -1;
}
