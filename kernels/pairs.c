/* Two queries as lists of planes (see sliced.h). */
#include "search.h"

/* The places where `differing` has the bit set, as planes that hold a bit wherever a row differs from `query`. */
static int list_planes(const uint64_t *query, const uint64_t *differing, int words, int wanted, size_t plane_bytes,
                       uint16_t *list) {
    int listed = 0;
    for (int bit = 0; bit < 64 * words; bit++) {
        if ((int)(differing[bit / 64] >> (bit % 64) & 1) != wanted) continue;
        list[listed++] = (uint16_t)(plane_bytes * (2 * (size_t)bit + (query[bit / 64] >> (bit % 64) & 1)));
    }
    return listed;
}

static int pad(uint16_t *list, int listed, size_t plane_bytes) {
    while (listed % 16) list[listed++] = (uint16_t)(plane_bytes * 2 * HM_MAX_SHORT_BITS);
    return listed / 16;
}

void hm_pair_queries(const uint64_t *one, const uint64_t *other, int words, int lanes, hm_pair *pair) {
    uint64_t differing[HM_MAX_SHORT_WORDS];
    size_t plane_bytes = 8 * (size_t)lanes; /* 513 planes of 64 bytes: an offset fits 16 bits */
    for (int w = 0; w < words; w++) differing[w] = one[w] ^ other[w];
    int agreeing = list_planes(one, differing, words, 0, plane_bytes, pair->list);
    pair->sixteens[0] = pad(pair->list, agreeing, plane_bytes);
    uint16_t *rest = pair->list + 16 * pair->sixteens[0];
    pair->differing = list_planes(one, differing, words, 1, plane_bytes, rest);
    pair->sixteens[1] = pad(rest, pair->differing, plane_bytes);
    pair->thresholds[0] = pair->thresholds[1] = -1;
}

static void spread_bits(int number, uint64_t *bits) {
    for (int bit = 0; bit <= HM_COUNTER_BITS; bit++) bits[bit] = (uint64_t)0 - (uint64_t)(number >> bit & 1);
}

/* The second distance is counted as E - N + 511 where it is E - N + m: its limit moves along. */
void hm_pair_thresholds(hm_pair *pair, int one, int other) {
    if (pair->thresholds[0] == one && pair->thresholds[1] == other) return;
    pair->thresholds[0] = one;
    pair->thresholds[1] = other;
    spread_bits(one, pair->limit_bits[0]);
    spread_bits(other - pair->differing + (1 << HM_COUNTER_BITS) - 1, pair->limit_bits[1]);
}
