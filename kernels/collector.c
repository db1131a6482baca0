/* Phase one for one query and one slice of rows. */
#include "hamming.h"

#include <stdlib.h>
#include <string.h>

void hm_collector_start(hm_collector *c, int bits, uint64_t need) {
    memset(c, 0, sizeof *c);
    c->threshold = bits;
    c->need = need;
}

static void drop_beyond_threshold(hm_collector *c) {
    size_t kept = 0;
    for (size_t i = 0; i < c->used; i++) {
        c->hits[kept] = c->hits[i];
        kept += hm_hit_distance(c->hits[i]) <= c->threshold;
    }
    c->used = kept;
}

/* Room for `extra` more hits. Dropping old hits is tried first; it must free half, or else growing is cheaper. */
int hm_collector_reserve(hm_collector *c, size_t extra) {
    extra += HM_SPILL;
    if (c->room - c->used >= extra) return 0;
    drop_beyond_threshold(c);
    if (c->room - c->used >= extra && c->used <= c->room / 2) return 0;
    size_t room = 2 * (c->used + extra);
    uint64_t *hits = realloc(c->hits, room * sizeof *hits);
    if (!hits) return -1;
    c->hits = hits;
    c->room = room;
    return 0;
}

void hm_collector_count(hm_collector *c, size_t added) {
    for (size_t i = c->used; i < c->used + added; i++) c->histogram[hm_hit_distance(c->hits[i])]++;
    c->used += added;
    c->within += added;
    while (c->within - (uint64_t)c->histogram[c->threshold] >= c->need)
        c->within -= (uint64_t)c->histogram[c->threshold--];
}

void hm_collector_free(hm_collector *c) {
    free(c->hits);
    c->hits = NULL;
}
