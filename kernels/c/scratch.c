/* Scratch memory, kept between calls: fresh pages cost a search of a million rows several per cent, because the system
 * clears each one. What is kept is bounded; more than that goes back to the system. */
#include "search.h"

#include <pthread.h>

#define KEPT_BUFFERS 256
#define KEPT_BYTES ((size_t)32 << 20)
#define HEADER 64 /* keeps the caller's part aligned to a register */

typedef struct {
    size_t room;
} header;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static header *kept[KEPT_BUFFERS];
static size_t kept_count, kept_bytes;

/* The smallest kept buffer that is large enough, but not wastefully large. */
static header *take_kept(size_t bytes) {
    size_t best = KEPT_BUFFERS;
    for (size_t i = 0; i < kept_count; i++)
        if (kept[i]->room >= bytes && kept[i]->room / 4 <= bytes && (best == KEPT_BUFFERS || kept[i]->room < kept[best]->room))
            best = i;
    if (best == KEPT_BUFFERS) return NULL;
    header *found = kept[best];
    kept[best] = kept[--kept_count];
    kept_bytes -= found->room;
    return found;
}

void *hm_take(size_t bytes) {
    bytes = (bytes + 4095) / 4096 * 4096;
    pthread_mutex_lock(&lock);
    header *found = take_kept(bytes);
    pthread_mutex_unlock(&lock);
    if (!found) {
        found = aligned_alloc(HEADER, HEADER + bytes);
        if (!found) return NULL;
        found->room = bytes;
    }
    return (char *)found + HEADER;
}

void hm_give(void *memory) {
    if (!memory) return;
    header *given = (header *)((char *)memory - HEADER);
    pthread_mutex_lock(&lock);
    int keeps = kept_count < KEPT_BUFFERS && kept_bytes + given->room <= KEPT_BYTES;
    if (keeps) {
        kept[kept_count++] = given;
        kept_bytes += given->room;
    }
    pthread_mutex_unlock(&lock);
    if (!keeps) free(given);
}
