/* A few short-lived threads. Starting one costs about 20 us, a scan of a million rows 1,500 us. */
#include "hamming.h"

#include <pthread.h>

#define MAX_THREADS 256

typedef struct {
    void (*work)(void *context, int task);
    void *context;
    int task;
} job;

static void *run(void *argument) {
    job *j = argument;
    j->work(j->context, j->task);
    return NULL;
}

void hm_parallel(int tasks, void (*work)(void *context, int task), void *context) {
    pthread_t threads[MAX_THREADS];
    job jobs[MAX_THREADS];
    int started = 0;
    while (started < tasks - 1 && started < MAX_THREADS) {
        jobs[started] = (job){work, context, started};
        if (pthread_create(&threads[started], NULL, run, &jobs[started])) break;
        started++;
    }
    for (int task = started; task < tasks; task++) work(context, task); /* where no more threads start, all here */
    for (int t = 0; t < started; t++) pthread_join(threads[t], NULL);
}
