/* A token goes once around all ranks; rank 0 tells who was there. The prototypes are MPICH's, or with
   -DOPEN_MPI those of Open MPI: to build it, their libraries are enough. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef OPEN_MPI
typedef void *MPI_Comm, *MPI_Datatype;
extern char ompi_mpi_comm_world[], ompi_mpi_int[], ompi_mpi_char[];
#define WORLD ompi_mpi_comm_world
#define INT ompi_mpi_int
#define CHAR ompi_mpi_char
#define IGNORED (void *)0
#else
typedef int MPI_Comm, MPI_Datatype;
enum { WORLD = 0x44000000, INT = 0x4c000405, CHAR = 0x4c000101 };
#define IGNORED (void *)1
#endif
int MPI_Init(int *, char ***);
int MPI_Finalize(void);
int MPI_Barrier(MPI_Comm);
int MPI_Comm_rank(MPI_Comm, int *);
int MPI_Comm_size(MPI_Comm, int *);
int MPI_Send(const void *, int, MPI_Datatype, int, int, MPI_Comm);
int MPI_Recv(void *, int, MPI_Datatype, int, int, MPI_Comm, void *);
int MPI_Gather(const void *, int, MPI_Datatype, void *, int, MPI_Datatype, int, MPI_Comm);

int main(int argc, char **argv) {
    int rank, size, token = 0;
    char host[64] = "", *hosts;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(WORLD, &rank);
    MPI_Comm_size(WORLD, &size);
    gethostname(host, sizeof host - 1);
    if (rank > 0)
        MPI_Recv(&token, 1, INT, rank - 1, 0, WORLD, IGNORED);
    token++;
    if (size > 1)
        MPI_Send(&token, 1, INT, (rank + 1) % size, 0, WORLD);
    if (rank == 0 && size > 1)
        MPI_Recv(&token, 1, INT, size - 1, 0, WORLD, IGNORED);
    hosts = malloc(64 * size);
    MPI_Gather(host, 64, CHAR, hosts, 64, CHAR, 0, WORLD);
    if (rank == 0) {
        printf("%d of %d:", token, size);
        for (int i = 0; i < size; i++)
            printf(" %s", hosts + 64 * i);
        printf("\n");
    }
    if (argc > 1) { fflush(stdout); sleep(atoi(argv[1])); }
    fflush(stdout);
    MPI_Barrier(WORLD);
#ifndef OPEN_MPI
    /* MPICH 4.0 over UCX: a rank that is done waits in a barrier of the launcher's (PMI), where it answers
       nobody, and others cannot close their connections to it. About one in two hangs on two nodes. */
    _exit(0);
#endif
    return MPI_Finalize();
}
