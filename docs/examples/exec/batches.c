/* Appends each batch as it is to the file that its argument names, and answers once it is on disk.
 * Built by: cc -o batches batches.c */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    FILE *file = argc > 1 ? fopen(argv[1], "a") : NULL;
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    uint64_t number;

    if (!file) {
        /* 78 (EX_CONFIG): not to be started again before somebody has changed something. */
        perror("<3>cannot open the file");
        return 78;
    }
    puts("{\"ebpf_process\":[1],\"format\":\"rows\",\"window\":4}");
    fflush(stdout);
    while ((length = getline(&line, &room, stdin)) > 0) {
        if (sscanf(line, "{\"batch\":%" SCNu64, &number) != 1)
            continue; /* the start, or what a later version may say */
        if (fwrite(line, 1, length, file) != (size_t)length || fflush(file) || fsync(fileno(file))) {
            printf("{\"batch\":%" PRIu64 ",\"retry_after\":5,\"reason\":\"cannot write\"}\n", number);
            clearerr(file);
        } else {
            printf("{\"batch\":%" PRIu64 ",\"ok\":true}\n", number);
        }
        fflush(stdout);
    }
    return 0;
}
