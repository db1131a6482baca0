/* Phase one for one query and one slice of rows. */
#include "search.h"

#include <string.h>

void hm_collector_start(hm_collector *c, int threshold, uint64_t need) {
    memset(c, 0, sizeof *c);
    c->threshold = c->first_threshold = threshold;
    c->need = need;
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
        c->within += distance <= c->threshold; /* planes are asked for a whole block before any hit is counted */
    }
    while (c->within - (uint64_t)c->histogram[c->threshold] >= c->need)
        c->within -= (uint64_t)c->histogram[c->threshold--];
}

/* Dropping old hits is tried first; it must free half, or else growing is cheaper. */
int hm_collector_grow(hm_collector *c, size_t extra) {
    hm_collector_count(c);
    drop_beyond_threshold(c);
    if (c->room - c->used >= extra && c->used <= c->room / 2) return 0;
    size_t room = 2 * (c->used + extra);
    uint64_t *hits = hm_take(room * sizeof *hits);
    if (!hits) return -1;
    if (c->used) memcpy(hits, c->hits, c->used * sizeof *hits);
    hm_give(c->hits);
    c->hits = hits;
    c->room = room;
    return 0;
}

void hm_collector_free(hm_collector *c) {
    hm_give(c->hits);
    c->hits = NULL;
}
