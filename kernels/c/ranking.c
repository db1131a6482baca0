/* The best rows by (distance, key, position), kept as a binary heap with the worst on top. */
#include "hamming.h"

#include <stdlib.h>

static int comes_before(const hm_ranked *a, const hm_ranked *b) {
    if (a->distance != b->distance) return a->distance < b->distance;
    if (a->key != b->key) return a->key < b->key;
    return a->position < b->position;
}

static void sift_up(hm_ranked *items, size_t at, hm_ranked row) {
    while (at && comes_before(&items[(at - 1) / 2], &row)) {
        items[at] = items[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    items[at] = row;
}

static void sift_down(hm_ranked *items, size_t size, hm_ranked row) {
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < size; at = child) {
        if (child + 1 < size && comes_before(&items[child], &items[child + 1])) child++;
        if (!comes_before(&row, &items[child])) break;
        items[at] = items[child];
    }
    items[at] = row;
}

int hm_ranking_offer(hm_ranking *r, hm_ranked row, uint64_t *evicted) {
    *evicted = HM_NO_POSITION;
    if (r->size < r->capacity) {
        sift_up(r->items, r->size++, row);
        return 1;
    }
    if (!comes_before(&row, &r->items[0])) return 0;
    *evicted = r->items[0].position;
    sift_down(r->items, r->size, row);
    return 1;
}

static int compare(const void *a, const void *b) { return comes_before(a, b) ? -1 : comes_before(b, a); }

void hm_ranking_sort(hm_ranking *r) {
    if (r->size) qsort(r->items, r->size, sizeof *r->items, compare);
}
