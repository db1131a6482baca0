/* Scratch memory, cached between calls: fresh pages cost a search of a million rows several per cent, because the
 * system clears each one. The cache is bounded; what does not fit goes back to the system. */
#include "search.h"

#include <pthread.h>

#define MAX_CACHED_BUFFERS 256
#define MAX_CACHED_BYTES ((size_t)32 << 20)
#define HEADER 64 /* the caller's memory after it stays aligned to a register */

typedef struct {
    size_t capacity;
} header;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static header *cached[MAX_CACHED_BUFFERS];
static size_t cached_count, cached_bytes;

/* The smallest cached buffer that is large enough, but not more than four times that. */
static header *take_cached(size_t bytes) {
    size_t best = MAX_CACHED_BUFFERS;
    for (size_t i = 0; i < cached_count; i++)
        if (cached[i]->capacity >= bytes && cached[i]->capacity / 4 <= bytes &&
            (best == MAX_CACHED_BUFFERS || cached[i]->capacity < cached[best]->capacity))
            best = i;
    if (best == MAX_CACHED_BUFFERS) return NULL;
    header *found = cached[best];
    cached[best] = cached[--cached_count];
    cached_bytes -= found->capacity;
    return found;
}

void *hm_scratch_alloc(size_t bytes) {
    bytes = (bytes + 4095) / 4096 * 4096;
    pthread_mutex_lock(&lock);
    header *found = take_cached(bytes);
    pthread_mutex_unlock(&lock);
    if (!found) {
        found = aligned_alloc(HEADER, HEADER + bytes);
        if (!found) return NULL;
        found->capacity = bytes;
    }
    return (char *)found + HEADER;
}

void hm_scratch_free(void *memory) {
    if (!memory) return;
    header *given = (header *)((char *)memory - HEADER);
    pthread_mutex_lock(&lock);
    int fits = cached_count < MAX_CACHED_BUFFERS && cached_bytes + given->capacity <= MAX_CACHED_BYTES;
    if (fits) {
        cached[cached_count++] = given;
        cached_bytes += given->capacity;
    }
    pthread_mutex_unlock(&lock);
    if (!fits) free(given);
}
