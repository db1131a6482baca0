/* Phase one for one query and one row range. */
#include "search.h"

#include <string.h>

void hm_collector_start(hm_collector *c, int threshold, uint64_t wanted) {
    memset(c, 0, sizeof *c);
    c->threshold = c->first_threshold = threshold;
    c->wanted = wanted;
}

static void drop_beyond_threshold(hm_collector *c) {
    size_t kept = 0;
    for (size_t i = 0; i < c->used; i++) {
        c->hits[kept] = c->hits[i];
        kept += hm_hit_distance(c->hits[i]) <= c->threshold;
    }
    c->used = c->counted = kept;
}

void hm_collector_count(hm_collector *c) {
    for (; c->counted < c->used; c->counted++) {
        int distance = hm_hit_distance(c->hits[c->counted]);
        c->histogram[distance]++;
        c->within += distance <= c->threshold; /* bit planes mask a whole block before any hit is counted */
    }
    while (c->within - (uint64_t)c->histogram[c->threshold] >= c->wanted)
        c->within -= (uint64_t)c->histogram[c->threshold--];
}

/* Dropping old hits is tried first; it must free half, or else growing is cheaper. */
int hm_collector_grow(hm_collector *c, size_t extra) {
    hm_collector_count(c);
    drop_beyond_threshold(c);
    if (c->capacity - c->used >= extra && c->used <= c->capacity / 2) return 0;
    size_t capacity = 2 * (c->used + extra);
    uint64_t *hits = hm_scratch_alloc(capacity * sizeof *hits);
    if (!hits) return -1;
    if (c->used) memcpy(hits, c->hits, c->used * sizeof *hits);
    hm_scratch_free(c->hits);
    c->hits = hits;
    c->capacity = capacity;
    return 0;
}

void hm_collector_free(hm_collector *c) {
    hm_scratch_free(c->hits);
    c->hits = NULL;
}
