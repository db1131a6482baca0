/* Three queries as lists of bit planes (see bit_planes.h). */
#include "search.h"

static int bit_of(const uint64_t *code, int bit) { return (int)(code[bit / 64] >> bit % 64 & 1); }

/* The class of a bit of the code: 1 where the second query differs from the first, plus 2 where the third does. */
static int class_of(const uint64_t *const queries[HM_TRIPLE], int bit) {
    int one = bit_of(queries[0], bit);
    return (bit_of(queries[1], bit) != one) | (bit_of(queries[2], bit) != one) << 1;
}

/* List the planes of a class where the first query has `value`, padded to whole groups; returns how many there are. */
static int list_planes(const uint64_t *const queries[HM_TRIPLE], int bits, int class, int value, size_t plane_bytes,
                       uint16_t *list, int *groups) {
    int listed = 0, found;
    for (int bit = 0; bit < bits; bit++)
        if (class_of(queries, bit) == class && bit_of(queries[0], bit) == value)
            list[listed++] = (uint16_t)(plane_bytes * (size_t)bit);
    found = listed;
    while (listed % HM_PLANE_GROUP) list[listed++] = (uint16_t)(plane_bytes * HM_MAX_SHORT_BITS);
    *groups = listed / HM_PLANE_GROUP;
    return found;
}

static void spread_bits(int number, int bits, uint64_t *spread) {
    for (int bit = 0; bit < bits; bit++) spread[bit] = (uint64_t)0 - (uint64_t)(number >> bit & 1);
}

/* A distance with members that count the other way comes as E + ~N = E - N + 2^k - 1 where it is E - N + members; the
 * sums of two classes, E and N, have k bits. */
static void set_offsets(hm_query_triple *triple, const int members[HM_CLASSES]) {
    int complement = (1 << hm_sum_bits(triple->small ? HM_SMALL_COUNTER_BITS : HM_COUNTER_BITS)) - 1;
    triple->offsets[0] = 0;
    triple->offsets[1] = complement - members[1] - members[3];
    triple->offsets[2] = complement - members[2] - members[3];
    for (int i = 0; i < HM_TRIPLE; i++) triple->thresholds[i] = -1;
}

void hm_triple_prepare(const uint64_t *const queries[HM_TRIPLE], int words, int lanes, hm_query_triple *triple) {
    size_t plane_bytes = 8 * (size_t)lanes; /* 257 planes of 64 bytes: an offset fits 16 bits */
    int bits = 64 * words, members[HM_CLASSES];
    uint16_t *list = triple->list;
    triple->small = 1;
    for (int class = 0; class < HM_CLASSES; class++) {
        int *groups = triple->groups[class];
        int ones = list_planes(queries, bits, class, 1, plane_bytes, list, &groups[0]);
        int zeros = list_planes(queries, bits, class, 0, plane_bytes, list + HM_PLANE_GROUP * groups[0], &groups[1]);
        list += HM_PLANE_GROUP * (groups[0] + groups[1]);
        members[class] = ones + zeros;
        triple->small &= members[class] < 1 << HM_SMALL_COUNTER_BITS;
        spread_bits(-1 - ones, HM_COUNTER_BITS, triple->start_bits[class]);
    }
    set_offsets(triple, members);
}

void hm_triple_set_thresholds(hm_query_triple *triple, const int thresholds[HM_TRIPLE]) {
    for (int i = 0; i < HM_TRIPLE; i++) {
        if (triple->thresholds[i] == thresholds[i]) continue;
        triple->thresholds[i] = thresholds[i];
        spread_bits(thresholds[i] + triple->offsets[i], HM_COUNTER_BITS + 1, triple->limit_bits[i]);
    }
}
