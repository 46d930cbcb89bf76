/* The two functions of the lab sheet, and a program that uses them: it shows what it finds, and leaves an answer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>

int open_segment(key_t keyval, int segsize)
{
    int shmid;
    if ((shmid = shmget(keyval, segsize, IPC_CREAT | 0660)) == -1)
        return -1;
    return shmid;
}

char *attach_segment(int shmid)
{
    return shmat(shmid, 0, 0);
}

int main(int argc, char *argv[])
{
    int shmid = argc == 2 ? open_segment(atoi(argv[1]), 4096) : -1;
    char *segptr = attach_segment(shmid);
    if (segptr == (char *)-1) {
        perror("attach_segment");
        return 1;
    }
    printf("found: %s\n", segptr);
    strcpy(segptr, "hello from C");
    return 0;
}
