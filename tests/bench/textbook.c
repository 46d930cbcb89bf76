/* The pair as a textbook has it: one shared buffer, two System V semaphores that hand it to and fro.

       textbook writer KEY_PATH BLOCK < input          textbook reader KEY_PATH BLOCK > output

   The writer reads a block into the shared memory, the reader writes it out of there; a block of length 0 is the end.
   There is nothing else in it: no second buffer, no dead peer, no signal. */

#define _GNU_SOURCE

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

enum { EMPTY, FULL, SEMAPHORES };

struct shared {
    ssize_t length;
    char data[];
};

union semun {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
};

static void fail(const char *call)
{
    perror(call);
    exit(EXIT_FAILURE);
}

static void change(int semid, unsigned short number, short by)
{
    struct sembuf operation = {.sem_num = number, .sem_op = by};

    while (semop(semid, &operation, 1) == -1)
        if (errno != EINTR)
            fail("semop");
}

static struct shared *attach(int shmid)
{
    void *address = shmat(shmid, NULL, 0);

    if (address == (void *)-1)
        fail("shmat");
    return address;
}

static void run_writer(key_t key, size_t block)
{
    unsigned short values[SEMAPHORES] = {[EMPTY] = 1, [FULL] = 0};
    int semid, shmid;
    struct shared *shared;
    ssize_t length;

    if ((semid = semget(key, SEMAPHORES, IPC_CREAT | IPC_EXCL | 0600)) == -1)
        fail("semget");
    if (semctl(semid, 0, SETALL, (union semun){.array = values}) == -1)
        fail("semctl");
    /* Last, so that a reader that finds the segment finds semaphores that have their values. */
    if ((shmid = shmget(key, sizeof *shared + block, IPC_CREAT | IPC_EXCL | 0600)) == -1)
        fail("shmget");
    shared = attach(shmid);
    do {
        change(semid, EMPTY, -1);
        if ((length = read(STDIN_FILENO, shared->data, block)) == -1)
            fail("read");
        shared->length = length;
        change(semid, FULL, 1);
    } while (length > 0);
}

static void write_all(const char *data, size_t length)
{
    while (length > 0) {
        ssize_t written = write(STDOUT_FILENO, data, length);

        if (written == -1)
            fail("write");
        data += written;
        length -= (size_t)written;
    }
}

static void run_reader(key_t key)
{
    int semid, shmid;
    struct shared *shared;
    ssize_t length;

    while ((shmid = shmget(key, 0, 0600)) == -1) {
        if (errno != ENOENT)
            fail("shmget");
        usleep(200);
    }
    if ((semid = semget(key, 0, 0600)) == -1)
        fail("semget");
    shared = attach(shmid);
    do {
        change(semid, FULL, -1);
        if ((length = shared->length) > 0)
            write_all(shared->data, (size_t)length);
        change(semid, EMPTY, 1);
    } while (length > 0);
    if (shmctl(shmid, IPC_RMID, NULL) == -1 || semctl(semid, 0, IPC_RMID) == -1)
        fail("IPC_RMID");
}

int main(int argc, char *argv[])
{
    key_t key;
    size_t block;

    if (argc != 4 || (block = strtoul(argv[3], NULL, 10)) == 0) {
        fprintf(stderr, "usage: textbook writer|reader KEY_PATH BLOCK\n");
        return 2;
    }
    if ((key = ftok(argv[2], 'T')) == -1)
        fail("ftok");
    if (strcmp(argv[1], "writer") == 0)
        run_writer(key, block);
    else
        run_reader(key);
    return 0;
}
